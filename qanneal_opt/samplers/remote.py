"""A seat whose sampler is far away: ledger and budget, deadlines and retries, and a local sampler to fall back on."""

from __future__ import annotations

import threading
import time
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import SamplerError, Samples, Seat
from qanneal_opt.samplers.checked import Answer, CheckedSeat
from qanneal_opt.samplers.deadline import checked_deadline, guarded
from qanneal_opt.samplers.faults import Fault, fault_of, may_have_run
from qanneal_opt.samplers.ledger import Ledger
from qanneal_opt.samplers.patience import Clock, Rest
from qanneal_opt.samplers.request import Request, counted
from qanneal_opt.samplers.tokens import scrubbed

__all__ = ["FAILURES", "Declined", "Job", "Remote", "RemoteError"]

FAILURES = ("fallback", "raise")

M = TypeVar("M")


class RemoteError(RuntimeError):
    """A machine far away failed, and the user asked for ``on_failure="raise"``: no annealing step catches it."""


class Declined(SamplerError):
    """The seat did not ask, as nothing would come of it; a machine is not at fault."""


class Spent(Declined):
    """The budget does not allow a submission."""


class Job(Protocol):
    """One submission: for some of a request's problems, in their order.

    Attributes:
        seconds: estimate of what it will be charged.
    """

    @property
    def seconds(self) -> float: ...  # noqa: D102

    def submit(self) -> Any:
        """Send it and wait for the answer; called in a thread of its own."""

    def read(self, answer: Any) -> list[Answer]:
        """Check the answer, enter it into the ledger, and give what the problems get."""


class Remote(CheckedSeat, Generic[M]):
    """What seats of machines far away have in common; they say how to connect and how to ask.

    Nothing that such a machine does raises out of training: what may pass is tried again, a solver that is gone is
    replaced by another, and in the end a local sampler answers, with ``info["fallback"]`` telling why. A machine
    that failed is then left alone for a while, so that training does not wait for it at every step.

    Args:
        name: for records.
        budget: seconds that may be charged in all, resumes included; ``None`` for no limit.
        on_failure: ``"fallback"`` or ``"raise"``, which raises :class:`RemoteError`. A budget that is used up
            falls back in either case.
        deadline: seconds for a call, connection, queue and retries included; ``None`` for any time.
        retries: further tries in a call.
        backoff: seconds before the first of them, doubled for each.
        rest: seconds for which a machine that failed is left alone, doubled for each failure.
        fallback: the seat of the local sampler; ``None``: an :class:`Annealer`.

    Raises:
        ValueError: if a number is outside its range or a name is unknown.
    """

    def __init__(
        self,
        name: str,
        *,
        budget: float | None,
        on_failure: str,
        deadline: float | None,
        retries: int,
        backoff: float,
        rest: float,
        fallback: Seat | None,
    ) -> None:
        from qanneal_opt.samplers.annealer import Annealer

        if on_failure not in FAILURES:
            raise ValueError(f"Invalid on_failure: {on_failure!r}; one of {', '.join(FAILURES)} is needed")
        for what, seconds in (("budget", budget), ("backoff", backoff), ("rest", rest)):
            if seconds is not None and not seconds >= 0:
                raise ValueError(f"Invalid {what}: {seconds}; seconds of at least 0 are needed")
        self.name = name
        self.ledger = Ledger()
        self.budget = budget
        self.on_failure = on_failure
        self.deadline = checked_deadline(deadline)
        self.retries = counted(retries, "retries", 0)
        self.backoff = backoff
        self.fallback: Seat = Annealer() if fallback is None else fallback
        self._rest = Rest(rest)
        self._machine: M | None = None
        self._said: set[str] = set()
        self._turn = threading.Lock()  # one call at a time

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_machine": None, "_turn": None}  # a connection is of this process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turn=threading.Lock())
        self._rest.end()

    @abstractmethod
    def _connect(self) -> M:
        """Reach the machine; called in a thread of its own."""

    @abstractmethod
    def _elsewhere(self, machine: M) -> M:
        """Reach another one instead; called in a thread of its own."""

    @abstractmethod
    def _job(self, machine: M, request: Request, first: int) -> Job:
        """A submission for problem ``first`` and as many after it as fit."""

    def sample_arrays(
        self,
        qubo: Qubo,
        *,
        num_reads: int = 1,
        seed: int | None = None,
        temperature: float | None = None,
        initial_states: Any = None,
    ) -> Samples:
        """As :meth:`Seat.sample_arrays`; ``info`` has ``"qpu_access_time"`` of this call and the ``"ledger"``.

        Raises:
            RemoteError: the machine failed, and ``on_failure="raise"``.
        """
        ask: Mapping[str, Any] = {
            "num_reads": num_reads,
            "seed": seed,
            "temperature": temperature,
            "initial_states": initial_states,
        }
        with self._turn:
            before, failure = self.ledger.qpu_access_time, None
            try:
                samples = super().sample_arrays(qubo, **ask)
            except SamplerError as error:
                failure = error
            self.ledger.calls += 1
            if failure is not None:
                samples = self._locally(failure, qubo, ask)
            told = {
                "qpu_access_time": self.ledger.qpu_access_time - before,
                "ledger": self.ledger.state_dict(),
            }
            return replace(samples, info=samples.info | told)

    def state_dict(self) -> dict[str, Any]:
        """The ledger."""
        return {"ledger": self.ledger.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.ledger.load_state_dict(state.get("ledger", {}))

    def _answers(self, request: Request) -> list[Answer]:
        clock, answers = Clock(self.deadline), list[Answer]()
        while len(answers) < request.problems:
            answers += self._persist(request, len(answers), clock)
        return answers

    def _persist(self, request: Request, first: int, clock: Clock) -> list[Answer]:
        """One submission, tried again where that may help."""
        if self._rest.left():
            raise SamplerError(f"{self._rest.reason} (left alone for {self._rest.left():.0f} s more)")
        wait, gone = self.backoff, False
        for attempt in range(self.retries + 1):
            try:
                answers = self._attempt(request, first, clock, gone)
                self._rest.end()
                return answers
            except Declined:
                raise
            except SamplerError as error:
                cause = error.__cause__ or error
                # the text alone: the error itself, or what caused it, may hold a token
                fault, text = fault_of(cause), scrubbed(str(error))
            gone = fault is Fault.ELSEWHERE
            if fault is Fault.FINAL or attempt == self.retries or not clock.allows(wait):
                break
            self.ledger.retries += 1
            if not gone:
                time.sleep(wait)
                wait *= 2
        self._rest.begin(text, long=fault is Fault.FINAL)
        raise SamplerError(text)

    def _attempt(self, request: Request, first: int, clock: Clock, gone: bool) -> list[Answer]:
        machine = self._machine
        if machine is None:
            machine = guarded(self.name, clock.left(), self._connect)
        elif gone:
            machine = guarded(self.name, clock.left(), partial(self._elsewhere, machine))
            self.ledger.failovers += 1
        self._machine = machine
        job = self._job(machine, request, first)
        if not self.ledger.affords(job.seconds, self.budget):
            raise Spent(
                f"Sampler {self.name!r} has used {self.ledger.charged:.3g} s of its budget of {self.budget:g} s; "
                f"a submission would take {job.seconds:.3g} s"
            )
        self.ledger.submissions += 1
        try:
            answer = guarded(self.name, clock.left(), job.submit)
        except SamplerError as error:
            if error.__cause__ is None:  # it hangs, and so may its connection
                self._machine = None
            if error.__cause__ is None or may_have_run(error.__cause__):
                self.ledger.unanswered += 1
                self.ledger.charge(job.seconds)
            raise
        return job.read(answer)

    def _locally(self, failure: SamplerError, qubo: Qubo, ask: Mapping[str, Any]) -> Samples:
        """What the local sampler gives instead, after a warning that is given once a reason."""
        spent = isinstance(failure, Spent)
        if self.on_failure == "raise" and not spent:
            raise RemoteError(str(failure)) from None
        self.ledger.fallbacks += 1
        reason = "budget" if spent else "failure"
        if reason not in self._said:
            self._said.add(reason)
            text = f"{failure}; {self.fallback.name!r} samples in its place"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        samples = self.fallback.sample_arrays(qubo, **ask)
        told = {"sampler": self.name, "fallback": str(failure), "answered_by": self.fallback.name}
        return replace(samples, info=samples.info | told)
