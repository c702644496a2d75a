"""Arguments for the samplers that are called most: temperatures from the problem's own scale, bounded work.

Left to their defaults, dwave-samplers' annealers spend most of a small solve on finding temperatures, and
its tabu search takes 20 ms whatever the problem. A plan is called with one problem and a temperature
(``None``: minimise) and gives keyword arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from qanneal_opt.qubo import Qubo

__all__ = ["Annealing", "BetaRange", "BoundedTabu", "NoPlan", "PathIntegral", "Plan", "flip_scale", "plan_for"]

Array = np.ndarray[Any, Any]

# In units of the flip scale below: where annealing begins, and where it ends when it minimises.
_HOT, _COLD = 0.5, 0.01
# Sweeps at (nearly) zero temperature at the end of a minimisation: a descent to a local minimum.
_DESCENT = 4
_FROZEN = 1e6  # their inverse temperature, in units of the last one before
_MAX_DRIVER = 20.0  # transverse field over temperature
_TINY = 1e-300  # keeps inverse temperatures finite


class Plan(Protocol):
    """Keyword arguments for ``dimod.Sampler.sample``, made for one problem."""

    def __call__(self, qubo: Qubo, temperature: float | None) -> dict[str, Any]:
        """The arguments; ``temperature=None`` minimises."""
        ...


def flip_scale(qubo: Qubo) -> Array:
    r"""Root mean square energy of flipping each bit among random bit strings, ascending.

    .. math:: \sigma_i^2 = (l_i + \sum_j Q_{ij} / 2)^2 + \sum_j Q_{ij}^2 / 4

    Bits that cost nothing to flip are left out; 1 if all are such.

    >>> flip_scale(Qubo([3.0, 0.0, -1.0], [[0, 0, 0], [0, 0, 0], [0, 0, 0]])).tolist()
    [1.0, 3.0]
    """
    linear, quadratic = qubo.linear.cpu().numpy(), qubo.quadratic.cpu().numpy()  # (n,), (n, n)
    scale = np.hypot(linear + quadratic.sum(1) / 2, np.sqrt(np.einsum("ij,ij->i", quadratic, quadratic)) / 2)
    scale = np.sort(scale[scale > 0])
    return scale if len(scale) else np.ones(1)


def _ends(qubo: Qubo, temperature: float | None, cold: float = _COLD) -> tuple[float, float]:
    """First and last temperature; a minimisation ends at ``cold`` times the median flip scale."""
    scale = flip_scale(qubo)
    last = max(cold * float(scale[len(scale) // 2]) if temperature is None else temperature, _TINY)
    return max(_HOT * float(scale[-1]), last), last


def _cooling(qubo: Qubo, temperature: float | None, sweeps: int) -> Array:
    """Inverse temperatures of the sweeps: falling, then a descent, or half of all at the last temperature."""
    first, last = _ends(qubo, temperature)
    held = min(_DESCENT, sweeps - 1) if temperature is None else sweeps // 2
    betas = np.full(sweeps, 1 / last if temperature is not None else _FROZEN / last)
    betas[: sweeps - held] = np.exp(np.linspace(-math.log(first), -math.log(last), sweeps - held))
    return betas


@dataclass(frozen=True)
class Annealing:
    """Simulated annealing of dwave-samplers.

    Fewer sweeps than the package's default serve, as the temperatures come from the problem. To draw at T, half of
    the sweeps are at T itself: enough for random problems down to 0.2 of the flip scale; at lower T rugged ones need
    more. Gibbs updates leave the Boltzmann distribution invariant, and are ergodic for bits without a field, where
    Metropolis updates in turn are not.
    """

    minimise: int = 400
    draw: int = 200

    def __post_init__(self) -> None:
        _check(self, minimise=2, draw=2)

    def __call__(self, qubo: Qubo, temperature: float | None) -> dict[str, Any]:
        """A custom schedule of inverse temperatures."""
        return {
            "beta_schedule_type": "custom",
            "beta_schedule": _cooling(qubo, temperature, self.minimise if temperature is None else self.draw),
            "proposal_acceptance_criteria": "Metropolis" if temperature is None else "Gibbs",
        }


@dataclass(frozen=True)
class PathIntegral:
    """Simulated quantum annealing: the transverse field falls to zero while the problem's part rises.

    The second half (when minimising, the last sweeps) is classical, at the temperature asked for.
    """

    minimise: int = 100
    draw: int = 200
    driver: float = 0.2
    """Transverse field at the start, in units of the temperature at which thermal annealing begins."""

    def __post_init__(self) -> None:
        _check(self, minimise=2, draw=2, driver=0)

    def __call__(self, qubo: Qubo, temperature: float | None) -> dict[str, Any]:
        """Custom schedules of the problem's part and of the transverse field."""
        # a sweep's time goes with driver / temperature: hence the bound, and an end warmer than Annealing's
        first, last = _ends(qubo, temperature, 5 * _COLD)
        sweeps = self.minimise if temperature is None else self.draw
        held = min(_DESCENT, sweeps - 1) if temperature is None else sweeps // 2
        rise = np.ones(sweeps)
        rise[: sweeps - held] = np.linspace(0, 1, sweeps - held)
        problem, transverse = rise / last, (1 - rise) * min(self.driver * first / last, _MAX_DRIVER)
        if temperature is None:
            problem[sweeps - held :] = _FROZEN / last
        return {"beta_schedule_type": "custom", "Hp_field": problem, "Hd_field": transverse}


@dataclass(frozen=True)
class BoundedTabu:
    """Tabu search of dwave-samplers with bounded work in place of its clock, which makes it reproducible.

    As good as its default of 20 ms a read, in 2 ms at n = 32 and 12 ms at n = 128.
    """

    moves: int = 100
    """Moves a variable between restarts."""
    restarts: int = 10

    def __post_init__(self) -> None:
        _check(self, moves=1, restarts=0)

    def __call__(self, qubo: Qubo, temperature: float | None) -> dict[str, Any]:
        """Bounds on moves and restarts, and no time limit."""
        return {
            "timeout": None,
            "num_restarts": self.restarts,
            "coefficient_z_first": self.moves,
            "coefficient_z_restart": self.moves,
            "lower_bound_z": 1,
        }


@dataclass(frozen=True)
class BetaRange:
    """Any other sampler with a ``beta_range``: from hot to the temperature asked for."""

    def __call__(self, qubo: Qubo, temperature: float | None) -> dict[str, Any]:
        """The range of inverse temperatures."""
        first, last = _ends(qubo, temperature)
        return {"beta_range": (1 / first, 1 / last)}


@dataclass(frozen=True)
class NoPlan:
    """Any other sampler: its own defaults; a ``temperature`` is passed on where it takes one."""

    def __call__(self, qubo: Qubo, temperature: float | None) -> dict[str, Any]:
        """The temperature, if there is one."""
        return {} if temperature is None else {"temperature": temperature}


def _check(plan: Any, **least: int) -> None:
    for name, bound in least.items():
        value = getattr(plan, name)
        if not value >= bound:
            raise ValueError(f"Invalid {name}: {value}; must be at least {bound}")


def plan_for(sampler: Any) -> Plan:
    """The plan for a ``dimod.Sampler``: by class for those of dwave-samplers, by parameters for others."""
    known: dict[str, Plan] = {
        "SimulatedAnnealingSampler": Annealing(),
        "PathIntegralAnnealingSampler": PathIntegral(),
        "TabuSampler": BoundedTabu(),
    }
    kind = type(sampler)
    if kind.__module__.startswith("dwave.samplers.") and kind.__name__ in known:
        return known[kind.__name__]
    parameters = sampler.parameters
    return BetaRange() if "beta_range" in parameters and "temperature" not in parameters else NoPlan()
