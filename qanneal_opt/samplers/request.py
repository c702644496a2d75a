"""What is asked of a sampler, validated before anything is done."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from qanneal_opt.qubo import Qubo

__all__ = ["Request", "counted", "derived_seeds"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked of a sampler for one problem or a batch of B.

    Args:
        qubo: the problems.
        reads: how many bit strings each, at least 1.
        seeds: one a problem, in [0, 2^31).
        temperature: to draw at, in units of the energies, or ``None`` to minimise.
        start: initial states, uint8 ``(B, S, n)`` with S between 1 and ``reads``, or ``None``.
        time_limit: positive seconds for all of it, or ``None``.
    """

    qubo: Qubo
    reads: int
    seeds: list[int]
    temperature: float | None
    start: Array | None
    time_limit: float | None = None

    @classmethod
    def of(
        cls, qubo: Any, num_reads: Any, seed: Any, temperature: Any, initial_states: Any, time_limit: Any = None
    ) -> Request:
        """The arguments of :meth:`Seat.sample_arrays`, which also says what is wrong with them."""
        if not isinstance(qubo, Qubo):
            raise TypeError(f"Invalid qubo: {type(qubo).__name__}; must be a Qubo (see Qubo.from_bqm, from_matrix)")
        reads, heat = counted(num_reads, "num_reads"), _heated(temperature)
        problems = 1 if qubo.batch is None else qubo.batch
        start = _started(initial_states, qubo, reads)
        if time_limit is not None and not time_limit > 0:
            raise ValueError(f"Invalid time_limit: {time_limit}; must be positive seconds, or None")
        return cls(qubo, reads, derived_seeds(seed, problems), heat, start, time_limit)

    @property
    def problems(self) -> int:
        """B."""
        return len(self.seeds)

    def problem(self, i: int) -> Request:
        """The same for problem ``i`` alone."""
        start = None if self.start is None else self.start[i : i + 1]
        return replace(self, qubo=self.qubo.problem(i), seeds=self.seeds[i : i + 1], start=start)


def counted(value: int, name: str, least: int = 1) -> int:
    """``value`` as an int of at least ``least``."""
    try:
        count = operator.index(value)
    except TypeError as error:
        raise TypeError(f"Invalid {name}: {value!r}; must be an integer") from error
    if count < least:
        raise ValueError(f"Invalid {name}: {value}; must be at least {least}")
    return count


def _heated(temperature: float | None) -> float | None:
    """``temperature`` as a positive float, or ``None``."""
    if temperature is None:
        return None
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"Invalid temperature: {temperature}; must be positive, or None to minimise")
    return float(temperature)


def derived_seeds(seed: int | None, count: int) -> list[int]:
    """``count`` well mixed seeds in [0, 2^31) from one integer (``None``: from the system's entropy)."""
    if seed is not None:
        seed = counted(seed, "seed", 0)
    seeds: list[int] = (np.random.SeedSequence(seed).generate_state(max(count, 1)) >> 1).tolist()
    return seeds[:count]


def _started(initial_states: Any, qubo: Qubo, reads: int) -> Array | None:
    """The initial states, uint8 ``(B, S, n)``."""
    if initial_states is None:
        return None
    batch = qubo.batch
    states = torch.as_tensor(initial_states).detach().cpu().numpy()
    if batch is None:
        states = states[None, None] if states.ndim == 1 else states[None]
    count = 1 if batch is None else batch
    if states.ndim != 3 or states.shape[0] != count or states.shape[2] != qubo.n or not states.shape[1]:
        valid = f"({qubo.n},) or (S, {qubo.n})" if batch is None else f"({batch}, S, {qubo.n})"
        given = tuple(torch.as_tensor(initial_states).shape)
        raise ValueError(f"Invalid initial_states: shape {given}; must be {valid}")
    if states.shape[1] > reads:
        raise ValueError(f"Invalid initial_states: {states.shape[1]} states for {reads} reads; must not be more")
    if not np.isin(states, (0, 1)).all():
        raise ValueError("Invalid initial_states: entries other than 0 and 1")
    return states.astype(np.uint8)
