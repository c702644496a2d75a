"""A foreign object with `sample_arrays` in a seat: asked once for a whole batch, its answer checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import Request, SamplerError, Seat
from qanneal_opt.samplers.deadline import checked_deadline, guarded

__all__ = ["ArraySeat"]


class ArraySeat(Seat):
    """A seat for an object with ``sample_arrays(qubo, *, num_reads, seed)`` whose answer has ``bits``.

    ``temperature`` and ``initial_states`` are passed on when they are asked for; a temperature only if the
    object says ``draws_at_temperature = True``.

    Args:
        sampler: the object. Its ``name`` and ``parameters`` are used where it has them.
        deadline: seconds for an answer, ``None`` for any time.
    """

    def __init__(self, sampler: Any, *, deadline: float | None = None) -> None:
        self.sampler = sampler
        self.name = str(getattr(sampler, "name", type(sampler).__name__))
        self.draws_at_temperature = bool(getattr(sampler, "draws_at_temperature", False))
        self.deadline = checked_deadline(deadline)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The object's parameters."""
        parameters: Mapping[str, Any] = getattr(self.sampler, "parameters", {})
        return parameters

    def _answers(self, qubo: Qubo, requests: list[Request]) -> list[tuple[Any, dict[str, Any]]]:
        first = requests[0]
        arguments: dict[str, Any] = {"num_reads": first.reads, "seed": first.seed}
        if first.temperature is not None:
            arguments["temperature"] = first.temperature
        starts = [request.start for request in requests if request.start is not None]
        if starts:
            arguments["initial_states"] = starts[0] if qubo.batch is None else np.stack(starts)

        def ask() -> tuple[Any, dict[str, Any]]:
            answer = self.sampler.sample_arrays(qubo, **arguments)
            return answer.bits, dict(getattr(answer, "info", {}))

        bits, info = guarded(self.name, self.deadline, ask)
        if qubo.batch is None:
            return [(bits, info)]
        if len(bits) != qubo.batch:
            raise SamplerError(f"Sampler {self.name!r} answered {len(bits)} of {qubo.batch} problems")
        return [(part, info if k == 0 else {}) for k, part in enumerate(bits)]
