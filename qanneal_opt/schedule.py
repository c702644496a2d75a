"""When to anneal, and how hot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from qanneal_opt.checks import check_int


class Span(NamedTuple):
    """Which of a run of annealing steps this is: the temperature falls from the first to the last."""

    round: int
    rounds: int


class Schedule(Protocol):
    """When to anneal. Frozen: what it has to remember goes into ``memory``, which checkpoints keep."""

    @property
    def budget(self) -> float | None:
        """The largest share of training wall-clock that annealing may take, or None."""
        ...

    def due(self, step: int, value: Callable[[], float], memory: dict[str, Any]) -> bool:
        """Whether to anneal after ``step`` completed steps; ``value()`` evaluates the objective."""
        ...

    def span(self, step: int) -> Span | None:
        """Which annealing step of a span this is; None where each is a span of its own."""
        ...


@dataclass(frozen=True)
class Every:
    """Anneal after each n-th step k with ``start < k <= stop``, counting from ``start``.

    Args:
        n: steps from one annealing step to the next.
        start: completed steps before which there is none.
        stop: the last step at which to anneal. With it, all of them are one span: the temperature falls
            over it, and its best state is put back at its end. Without it, each is a span of its own.
        budget: the largest share of training wall-clock that annealing may take, in (0, 1]; annealing
            steps over it are left out, so there is no bit-for-bit promise with a budget.

    Raises:
        ValueError: if a number is outside its range, or no step k would anneal.

    >>> [k for k in range(1, 30) if Every(5, start=10, stop=20).due(k, float, {})]
    [15, 20]
    """

    n: int
    start: int = 0
    stop: int | None = None
    budget: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_int("n", self.n, 1)
        check_int("start", self.start, 0)
        if self.stop is not None:
            check_int("stop", self.stop, self.start + self.n)
        _share(self.budget)

    def due(self, step: int, value: Callable[[], float], memory: dict[str, Any]) -> bool:
        """Whether ``step`` is one of them."""
        inside = self.start < step and (self.stop is None or step <= self.stop)
        return inside and (step - self.start) % self.n == 0

    def span(self, step: int) -> Span | None:
        """Which of the span's annealing steps ``step`` is."""
        if self.stop is None:
            return None
        return Span((step - self.start) // self.n - 1, (self.stop - self.start) // self.n)


@dataclass(frozen=True)
class OnPlateau:
    """Anneal when the objective has not fallen by more than ``min_delta`` within ``patience`` steps.

    The objective is evaluated once every ``patience`` steps, and each annealing step is a span of its own.

    Args:
        patience: steps between two looks.
        min_delta: the smallest fall that counts, in units of the objective.
        budget: as in :class:`Every`.

    Raises:
        ValueError: if a number is outside its range.
    """

    patience: int
    min_delta: float = 0.0
    budget: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_int("patience", self.patience, 1)
        if not (self.min_delta >= 0 and math.isfinite(self.min_delta)):
            raise ValueError(f"Invalid min_delta: {self.min_delta}; a finite number of at least 0 is needed")
        _share(self.budget)

    def due(self, step: int, value: Callable[[], float], memory: dict[str, Any]) -> bool:
        """Whether the objective stood still since the last look."""
        if step % self.patience:
            return False
        before, now = memory.get("anneal_plateau", math.inf), value()
        memory["anneal_plateau"] = min(before, now)  # in this order NaN is never kept
        return math.isfinite(before) and not now < before - self.min_delta

    def span(self, step: int) -> None:
        """Each annealing step is a span of its own."""


@dataclass(frozen=True)
class Cooling:
    """A temperature that falls geometrically from ``first`` to ``last``; both 0 for none at all."""

    first: float
    last: float
    unit: Literal["relative", "absolute"] = "relative"

    @staticmethod
    def of(temperature: float | tuple[float, float], unit: str) -> Cooling:
        """Read what users write: one number, or first and last.

        Raises:
            ValueError: on a negative or non-finite number, a zero beside a positive one, or an unknown unit.
        """
        pair = temperature if isinstance(temperature, (tuple, list)) else (temperature, temperature)
        numbers = all(isinstance(t, (int, float)) and 0 <= t < math.inf for t in pair)
        if unit not in ("relative", "absolute"):
            raise ValueError(f'Invalid temperature_unit: {unit!r}; "relative" or "absolute" is needed')
        if not (numbers and len(pair) == 2 and (pair[0] > 0) == (pair[1] > 0)):
            raise ValueError(
                f"Invalid temperature: {temperature!r}; 0.0, or one or two positive finite numbers are needed"
            )
        return Cooling(float(pair[0]), float(pair[1]), "relative" if unit == "relative" else "absolute")

    def at(self, round: int, rounds: int, reference: float) -> float:
        """Give the temperature of one of ``rounds``, in units of the objective.

        Args:
            round: from 0 to ``rounds - 1``.
            rounds: how many there are.
            reference: the objective when annealing began, the unit of a relative temperature.
        """
        if self.first == 0:
            return 0.0
        if self.unit == "relative" and not reference > 0:
            raise ValueError(
                f'Invalid temperature_unit: "relative" needs an objective above 0, and it is {reference:g} '
                'as annealing begins; use "absolute"'
            )
        fraction = round / (rounds - 1) if rounds > 1 else 0.0
        temperature = self.first * math.pow(self.last / self.first, fraction)
        return temperature * reference if self.unit == "relative" else temperature


def _share(budget: float | None) -> None:
    if budget is not None and not 0 < budget <= 1:
        raise ValueError(f"Invalid budget: {budget}; a share of training time in (0, 1] is needed")
