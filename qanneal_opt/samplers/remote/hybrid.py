"""D-Wave's Leap hybrid solver of binary quadratic models in a seat."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import SamplerError, Seat
from qanneal_opt.samplers.checked import Answer
from qanneal_opt.samplers.remote.connection import checked_selection, maker
from qanneal_opt.samplers.remote.ledger import reported
from qanneal_opt.samplers.remote.limits import Limits
from qanneal_opt.samplers.remote.seat import Remote
from qanneal_opt.samplers.request import Request
from qanneal_opt.samplers.tokens import hush_logs

__all__ = ["Hybrid"]


class Hybrid(Remote[Any]):
    """D-Wave's Leap hybrid solver: low-energy states of large problems; it draws at no temperature.

    It works for a time limit, of at least a minimum that grows with the problem and is seconds even for small ones;
    ``info["time_limit"]`` and ``info["minimum_time_limit"]`` show both. The problems of a batch are sent as one,
    side by side. One state a problem comes back.

    Args:
        solver: a ``LeapHybridSampler``, what has its attributes, or a function that makes one; by default
            ``LeapHybridSampler(**config)``, made at the first call.
        hybrid_budget: seconds of charged solver time in all, resumes included; then the local sampler answers.
        time_limit: seconds for a submission; the solver's minimum where that is more, or for ``None``.
        config: keywords of ``LeapHybridSampler``: profile, solver, region. No token: that is for the D-Wave
            configuration or ``DWAVE_API_TOKEN``.
        on_failure: as in :class:`QPU`, and so are the others.
        deadline: seconds for a call.
        retries: further tries in a call.
        backoff: seconds before the first of them.
        rest: seconds for which a solver that failed is left alone.
        fallback: the seat of the local sampler.

    Raises:
        ValueError: a number outside its range, an unknown name, or a token.

    >>> Hybrid(time_limit=5.0).draws_at_temperature
    False
    """

    draws_at_temperature = False

    def __init__(
        self,
        solver: Any = None,
        *,
        hybrid_budget: float | None = None,
        time_limit: float | None = None,
        config: Mapping[str, Any] | None = None,
        on_failure: str = "fallback",
        deadline: float | None = 120.0,
        retries: int = 3,
        backoff: float = 1.0,
        rest: float = 30.0,
        fallback: Seat | None = None,
    ) -> None:
        super().__init__(Limits("hybrid", hybrid_budget, on_failure, deadline, retries, backoff, rest), fallback)
        if time_limit is not None and not time_limit > 0:
            raise ValueError(f"Invalid time_limit: {time_limit}; positive seconds, or None, are needed")
        self.time_limit = time_limit
        self._make = maker(solver, partial(_connected, checked_selection(config)))

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The solver's parameters, once it was reached."""
        machine = self.attempts.machine
        return {} if machine is None else machine.parameters

    def connect(self) -> Any:
        """Reach the solver of the user's configuration."""
        hush_logs()
        return self._make()

    def elsewhere(self, machine: Any) -> Any:
        """Ask for one again: which one, Leap decides."""
        return self._make()

    def job(self, machine: Any, request: Request, first: int) -> _Submission:
        """All problems at once."""
        return _Submission(self, machine, request, first)


class _Submission:
    """All problems of a request from ``first`` on, as one model: their sum is least where each of them is."""

    def __init__(self, seat: Hybrid, solver: Any, request: Request, first: int) -> None:
        self.seat, self.solver, self.n = seat, solver, request.qubo.n
        self.count = request.problems - first
        self.model = _side_by_side([request.qubo.problem(first + k) for k in range(self.count)])
        self.minimum = float(solver.min_time_limit(self.model))
        self.seconds = max(seat.time_limit or 0.0, self.minimum)

    def submit(self) -> Any:
        """Send it and wait for the answer."""
        taken = {"label": "qanneal_opt"} if "label" in self.solver.parameters else {}
        answer = self.solver.sample(self.model, time_limit=self.seconds, **taken)
        answer.resolve()
        return answer

    def read(self, answer: Any) -> list[Answer]:
        """The bits of each problem."""
        charge, ledger = reported(answer.info, "charge_time"), self.seat.ledger
        charged = self.seconds if charge is None else charge
        ledger.charge(charged)
        ledger.qpu_access_time += reported(answer.info, "qpu_access_time") or 0.0
        labels = list(answer.variables)
        if set(labels) != set(self.model.variables):
            raise SamplerError(f"the hybrid solver answered {len(labels)} variables of {self.n * self.count}")
        record = answer.record
        if not len(record) or not np.isfinite(record.energy).all():
            raise SamplerError("the hybrid solver returned no sample, or energies that are not finite")
        values = record.sample[:, np.argsort(labels)].reshape(len(record), self.count, self.n)
        ledger.problems += self.count
        ledger.reads += self.count * len(record)
        told = {
            "solver": str(getattr(self.solver, "properties", {}).get("chip_id", type(self.solver).__name__)),
            "time_limit": self.seconds,
            "minimum_time_limit": self.minimum,
            "charge_time": charged,
        }
        return [(values[:, k], dict(told)) for k in range(self.count)]


def _side_by_side(qubos: list[Qubo]) -> Any:
    """One model of several problems of n variables, those of the k-th being k n to (k + 1) n - 1."""
    from dimod import BINARY, BinaryQuadraticModel

    linear = torch.cat([qubo.linear for qubo in qubos]).cpu().numpy()
    parts = [qubo.quadratic.triu(1).cpu().numpy() for qubo in qubos]
    places = [np.stack(np.nonzero(part)) for part in parts]
    rows, columns = np.concatenate([place + k * qubos[0].n for k, place in enumerate(places)], 1)
    values = np.concatenate([part[tuple(place)] for part, place in zip(parts, places)])
    return BinaryQuadraticModel.from_numpy_vectors(linear, (rows, columns, values), 0.0, BINARY)


def _connected(selection: Mapping[str, Any]) -> Any:
    from dwave.system import LeapHybridSampler

    return LeapHybridSampler(**selection)
