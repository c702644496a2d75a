"""Any `dimod.Sampler` in a seat: the model from arrays, arguments it understands, its answer checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from qanneal_opt.samplers.base import SamplerError
from qanneal_opt.samplers.checked import Answer, CheckedSeat
from qanneal_opt.samplers.deadline import checked_deadline, guarded
from qanneal_opt.samplers.request import Request
from qanneal_opt.samplers.schedules import Plan, plan_for

if TYPE_CHECKING:
    from dimod import SampleSet
    from dimod.core.sampler import Sampler

__all__ = ["DimodSeat", "plain"]

Array = np.ndarray[Any, Any]


class DimodSeat(CheckedSeat):
    """A seat for a ``dimod.Sampler``.

    Args:
        sampler: the sampler, or a function without arguments that makes it when it is first needed (one on a
            network, say).
        name: for records; the class's by default.
        plan: gives the arguments for a problem and a temperature; by default :func:`schedules.plan_for`
            chooses one at the first use.
        draws_at_temperature: by default, whether the sampler has a parameter ``beta_range`` or
            ``temperature``.
        options: further keyword arguments for each call; they win over those of the plan.
        deadline: seconds for an answer, ``None`` for any time. A call that does not come back is left behind
            in a daemon thread.
        tells: whether ``info`` gets what the sampler reports (its timing, say, which no seed reproduces).

    Raises:
        TypeError: what is neither a sampler nor callable.
        ValueError: a deadline that is not positive.

    >>> import dimod
    >>> from qanneal_opt.qubo import Qubo
    >>> seat = DimodSeat(dimod.ExactSolver())
    >>> seat.sample_arrays(Qubo([-1.0, 2.0], [[0.0, 5.0], [5.0, 0.0]])).bits.tolist()
    [[1, 0]]
    """

    def __init__(
        self,
        sampler: Sampler | Callable[[], Sampler],
        *,
        name: str | None = None,
        plan: Plan | None = None,
        draws_at_temperature: bool | None = None,
        options: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        tells: bool = True,
    ) -> None:
        from dimod.core.sampler import Sampler

        ready = isinstance(sampler, Sampler)
        if not ready and (isinstance(sampler, type) or not callable(sampler)):
            raise TypeError(f"Invalid sampler: {sampler!r}; must be a dimod.Sampler or a function that makes one")
        self._sampler: Any = sampler if ready else None
        self._make: Any = sampler
        self._plan = plan
        self.name = name if name is not None else getattr(sampler, "__name__", type(sampler).__name__)
        self.options = dict(options or {})
        self.deadline = checked_deadline(deadline)
        self.tells = tells
        if draws_at_temperature is None:
            draws_at_temperature = ready and not {"beta_range", "temperature"}.isdisjoint(self.parameters)
        self.draws_at_temperature = draws_at_temperature

    @property
    def sampler(self) -> Any:
        """The sampler behind this seat; made now if it was not yet."""
        if self._sampler is None:
            self._sampler = self._make()
        return self._sampler

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The sampler's parameters; it is made if it was not yet."""
        parameters: Mapping[str, Any] = self.sampler.parameters
        return parameters

    def _answers(self, request: Request) -> list[Answer]:
        asks = [partial(self._ask, request.problem(i)) for i in range(request.problems)]
        return [guarded(self.name, self.deadline, ask) for ask in asks]

    def _ask(self, request: Request) -> Answer:
        from dimod import SampleSet

        sampler = self.sampler
        if self._plan is None:
            self._plan = plan_for(sampler)
        arguments = self._plan(request.qubo, request.temperature)
        takes = sampler.parameters
        if "num_reads" in takes:
            arguments["num_reads"] = request.reads
        if "seed" in takes:
            arguments["seed"] = request.seeds[0]
        if request.start is not None and "initial_states" in takes:
            arguments["initial_states"] = (request.start[0].astype(np.int8), list(range(request.qubo.n)))
        answer = sampler.sample(request.qubo.to_bqm(), **(arguments | self.options))
        if not isinstance(answer, SampleSet):
            raise SamplerError(f"Sampler {self.name!r} returned a {type(answer).__name__}, not a dimod.SampleSet")
        return self._bits(answer, request), plain(answer.info) if self.tells else {}

    def _bits(self, answer: SampleSet, request: Request) -> Array:
        """Bits ``(R, n)`` in the problem's order of variables, a row for each occurrence."""
        record, n = answer.record, request.qubo.n  # here a remote answer is waited for
        values: Array = record.sample  # (rows, n)
        labels = list(answer.variables)
        if labels != list(range(n)):
            if len(labels) != n or set(labels) != set(range(n)):
                few = f"{len(labels)} variables {str(labels)[:60]}"
                raise SamplerError(f"Sampler {self.name!r} returned {few}; must be those of the problem, 0 .. {n - 1}")
            values = values[:, np.argsort(labels)]
        if not np.isfinite(record.energy).all():
            raise SamplerError(f"Sampler {self.name!r} returned energies that are not finite")
        if "SPIN" in answer.vartype.name:
            if not (np.abs(values) == 1).all():
                raise SamplerError(f"Sampler {self.name!r} returned spins other than -1 and 1")
            values = (values + 1) // 2
        times = record.num_occurrences
        if (times == 1).all():
            return values
        if (times < 1).any():
            raise SamplerError(f"Sampler {self.name!r} returned num_occurrences below 1")
        if request.temperature is None:
            times = np.minimum(times, request.reads)  # more of one state are not needed
        return np.repeat(values, times, axis=0)


def plain(info: Mapping[Any, Any]) -> dict[str, Any]:
    """The numbers, strings and dictionaries of them in ``info``; the rest (arrays, embeddings) is left out.

    >>> plain({"timing": {"qpu": 3.5}, "beta_range": [0.1, 2.0], "problem": object()})
    {'timing': {'qpu': 3.5}}
    """
    kept: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, Mapping):
            kept[str(key)] = plain(value)
        elif isinstance(value, np.generic):
            kept[str(key)] = value.item()
        elif value is None or isinstance(value, (bool, int, float, str)):
            kept[str(key)] = value
    return kept
