"""Asking a machine far away: within a budget and a deadline, again where that may help, elsewhere when it is gone."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from qanneal_opt.samplers.base import SamplerError
from qanneal_opt.samplers.checked import Answer
from qanneal_opt.samplers.deadline import guarded
from qanneal_opt.samplers.remote.faults import Fault, fault_of, may_have_run
from qanneal_opt.samplers.remote.ledger import Ledger
from qanneal_opt.samplers.remote.limits import Limits
from qanneal_opt.samplers.remote.patience import Clock, Rest
from qanneal_opt.samplers.request import Request
from qanneal_opt.samplers.tokens import scrubbed

__all__ = ["Attempts", "Declined", "Job", "Reach", "Spent"]

M = TypeVar("M")


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


class Reach(ABC, Generic[M]):
    """How a kind of machine is reached and asked; in threads of their own, as each may ask the network."""

    @abstractmethod
    def connect(self) -> M:
        """Reach the machine."""

    @abstractmethod
    def elsewhere(self, machine: M) -> M:
        """Reach another one instead."""

    @abstractmethod
    def job(self, machine: M, request: Request, first: int) -> Job:
        """A submission for problem ``first`` and as many after it as fit."""


class Attempts(Generic[M]):
    """Asks machines of one kind.

    Args:
        name: of the sampler, for errors.
        ledger: is kept by it.
        limits: of what it may spend, and of how often and how long it tries.

    Attributes:
        machine: the one in use, once it was reached.
    """

    def __init__(self, name: str, ledger: Ledger, limits: Limits) -> None:
        self.name = name
        self.ledger = ledger
        self.limits = limits
        self.machine: M | None = None
        self._rest = Rest(limits.rest)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "machine": None}  # a connection is of this process, and so are moments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rest.end()

    def ask(self, reach: Reach[M], request: Request, first: int, clock: Clock) -> list[Answer]:
        """One submission, tried again where that may help.

        Raises:
            SamplerError: nothing came of it; its text is free of tokens.
        """
        if self._rest.left():
            raise SamplerError(f"{self._rest.reason} (left alone for {self._rest.left():.0f} s more)")
        wait, gone = self.limits.backoff, False
        for attempt in range(self.limits.retries + 1):
            try:
                answers = self._attempt(reach, request, first, clock, gone)
                self._rest.end()
                return answers
            except Declined:
                raise
            except SamplerError as error:
                # the text alone: the error itself, or what caused it, may hold a token
                fault, text = fault_of(error.__cause__ or error), scrubbed(str(error))
            gone = fault is Fault.ELSEWHERE
            if fault is Fault.FINAL or attempt == self.limits.retries or not clock.allows(wait):
                break
            self.ledger.retries += 1
            if not gone:
                time.sleep(wait)
                wait *= 2
        self._rest.begin(text, long=fault is Fault.FINAL)
        raise SamplerError(text)

    def _attempt(self, reach: Reach[M], request: Request, first: int, clock: Clock, gone: bool) -> list[Answer]:
        machine = self.machine
        if machine is None:
            machine = guarded(self.name, clock.left(), reach.connect)
        elif gone:
            machine = guarded(self.name, clock.left(), partial(reach.elsewhere, machine))
            self.ledger.failovers += 1
        self.machine = machine
        job = guarded(self.name, clock.left(), partial(reach.job, machine, request, first))
        budget = self.limits.budget
        if not self.ledger.affords(job.seconds, budget):
            raise Spent(
                f"Sampler {self.name!r} has used {self.ledger.charged:.3g} s of its budget of {budget:g} s; "
                f"a submission would take {job.seconds:.3g} s"
            )
        self.ledger.submissions += 1
        try:
            answer = guarded(self.name, clock.left(), job.submit)
        except BaseException as error:  # an interrupt as well: the machine goes on
            cause = error.__cause__ if isinstance(error, SamplerError) else None
            if cause is None:  # it hangs, and so may its connection
                self.machine = None
            if cause is None or may_have_run(cause):
                self.ledger.unanswered += 1
                self.ledger.charge(job.seconds)
            raise
        return guarded(self.name, None, partial(job.read, answer))
