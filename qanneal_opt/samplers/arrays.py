"""A foreign object with `sample_arrays` in a seat: asked once for a whole batch, its answer checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qanneal_opt.samplers.base import SamplerError
from qanneal_opt.samplers.checked import Answer, CheckedSeat
from qanneal_opt.samplers.deadline import checked_deadline, guarded
from qanneal_opt.samplers.request import Request

__all__ = ["ArraySeat"]


class ArraySeat(CheckedSeat):
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

    def _answers(self, request: Request) -> list[Answer]:
        qubo, start = request.qubo, request.start
        arguments: dict[str, Any] = {"num_reads": request.reads, "seed": request.seeds[0]}
        if request.temperature is not None:
            arguments["temperature"] = request.temperature
        if start is not None:
            arguments["initial_states"] = start[0] if qubo.batch is None else start

        def ask() -> Answer:
            answer = self.sampler.sample_arrays(qubo, **arguments)
            return answer.bits, dict(getattr(answer, "info", {}))

        bits, info = guarded(self.name, self.deadline, ask)
        if qubo.batch is None:
            return [(bits, info)]
        if len(bits) != qubo.batch:
            raise SamplerError(f"Sampler {self.name!r} answered {len(bits)} of {qubo.batch} problems")
        return [(part, info if k == 0 else {}) for k, part in enumerate(bits)]
