"""Seats of the local samplers of D-Wave's packages, which are imported when a seat is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qanneal_opt.samplers.base import Seat
from qanneal_opt.samplers.schedules import Annealing, BoundedTabu, NoPlan, PathIntegral

__all__ = ["dwave_sa", "dwave_tabu", "greedy", "sqa"]


def dwave_sa(*, minimise: int = 400, draw: int = 200, **options: Any) -> Seat:
    """Simulated annealing of dwave-samplers: sweeps to minimise, sweeps to draw, further arguments."""
    from dwave import samplers

    return _local(samplers.SimulatedAnnealingSampler, "dwave-sa", Annealing(minimise, draw), True, options)


def sqa(*, minimise: int = 100, draw: int = 200, **options: Any) -> Seat:
    """Path-integral annealing of dwave-samplers: sweeps to minimise, sweeps to draw, further arguments."""
    from dwave import samplers

    return _local(samplers.PathIntegralAnnealingSampler, "sqa", PathIntegral(minimise, draw), True, options)


def dwave_tabu(*, moves: int = 100, restarts: int = 10, **options: Any) -> Seat:
    """Tabu search of dwave-samplers: moves a variable between restarts, restarts, further arguments."""
    from dwave import samplers

    return _local(samplers.TabuSampler, "dwave-tabu", BoundedTabu(moves, restarts), False, options)


def greedy(**options: Any) -> Seat:
    """Steepest descent of dwave-samplers, from random or given states."""
    from dwave import samplers

    return _local(samplers.SteepestDescentSolver, "greedy", NoPlan(), False, options)


def _local(sampler: Callable[[], Any], name: str, plan: Any, draws: bool, options: dict[str, Any]) -> Seat:
    from qanneal_opt.samplers.dimod_seat import DimodSeat

    # their reports are timings, which would make records of equal runs differ
    return DimodSeat(sampler(), name=name, plan=plan, draws_at_temperature=draws, options=options, tells=False)
