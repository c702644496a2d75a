"""A seat whose sampler is far away: ledger and budget, deadlines and retries, and a local sampler to fall back on."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import RemoteError, SamplerError, Samples, Seat
from qanneal_opt.samplers.checked import Answer, CheckedSeat
from qanneal_opt.samplers.remote.attempts import Attempts, Reach, Spent
from qanneal_opt.samplers.remote.ledger import Ledger
from qanneal_opt.samplers.remote.limits import Limits
from qanneal_opt.samplers.remote.patience import Clock
from qanneal_opt.samplers.request import Request

__all__ = ["Remote"]

M = TypeVar("M")


class Remote(CheckedSeat, Reach[M]):
    """What seats of machines far away have in common; they say how to connect and how to ask.

    Nothing that such a machine does raises out of training: what may pass is tried again, a solver that is gone is
    replaced by another, and in the end a local sampler answers, with ``info["fallback"]`` telling why. A machine
    that failed is then left alone for a while, so that training does not wait for it at every step.

    Args:
        limits: of what it may spend and wait for; its name, for records, is there too.
        fallback: the seat of the local sampler; ``None``: an :class:`Annealer`.
    """

    def __init__(self, limits: Limits, fallback: Seat | None) -> None:
        from qanneal_opt.samplers.annealer import Annealer

        self.name = limits.sampler
        self.ledger = Ledger()
        self.limits = limits
        self.attempts: Attempts[M] = Attempts(self.name, self.ledger, limits)
        self.fallback: Seat = Annealer() if fallback is None else fallback
        self._said: set[str] = set()
        self._turn = threading.Lock()  # one call at a time

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_turn": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turn=threading.Lock())

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
        clock, answers = Clock(self.limits.deadline), list[Answer]()
        failure = None
        while failure is None and len(answers) < request.problems:
            try:
                answers += self.attempts.ask(self, request, len(answers), clock)
            except SamplerError as error:
                if not answers:
                    raise
                failure = error
        if failure is not None:  # what was answered is paid for, and kept
            told = self._told(failure)
            for one in map(request.problem, range(len(answers), request.problems)):
                start = None if one.start is None else one.start[0]
                samples = self.fallback.sample_arrays(
                    one.qubo,
                    num_reads=one.reads,
                    seed=one.seeds[0],
                    temperature=one.temperature,
                    initial_states=start,
                )
                answers.append((samples.bits, samples.info | told))
        return answers

    def _locally(self, failure: SamplerError, qubo: Qubo, ask: Mapping[str, Any]) -> Samples:
        """What the local sampler gives instead."""
        told = self._told(failure)
        samples = self.fallback.sample_arrays(qubo, **ask)
        return replace(samples, info=samples.info | told)

    def _told(self, failure: SamplerError) -> dict[str, Any]:
        """What to tell of a fallback, after a warning that is given once a reason."""
        spent = isinstance(failure, Spent)
        if self.limits.on_failure == "raise" and not spent:
            raise RemoteError(str(failure)) from None
        self.ledger.fallbacks += 1
        reason = "budget" if spent else "failure"
        if reason not in self._said:
            self._said.add(reason)
            text = f"{failure}; {self.fallback.name!r} samples in its place"
            warnings.warn(text, RuntimeWarning, stacklevel=4)
        return {"sampler": self.name, "fallback": str(failure), "answered_by": self.fallback.name}
