"""Seats of the samplers of D-Wave's packages, which are imported when a seat is made or first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qanneal_opt.samplers.base import Seat
from qanneal_opt.samplers.schedules import Annealing, BoundedTabu, NoPlan, PathIntegral

__all__ = ["dwave_sa", "dwave_tabu", "greedy", "hybrid", "qpu", "sqa"]

REMOTE_DEADLINE = 120.0
"""Seconds for an answer from D-Wave's machines, queue and connection included."""


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


def qpu(**options: Any) -> Seat:
    """A D-Wave quantum annealer by minor embedding; it samples at a temperature of its own."""
    return _remote(_connect_qpu, "qpu", options)


def hybrid(**options: Any) -> Seat:
    """D-Wave's Leap hybrid solver, which returns one state."""
    return _remote(_connect_hybrid, "hybrid", options)


def _connect_qpu() -> Any:
    from dwave.system import DWaveSampler, EmbeddingComposite

    return EmbeddingComposite(DWaveSampler())


def _connect_hybrid() -> Any:
    from dwave.system import LeapHybridSampler

    return LeapHybridSampler()


def _local(sampler: Callable[[], Any], name: str, plan: Any, draws: bool, options: dict[str, Any]) -> Seat:
    from qanneal_opt.samplers.dimod_seat import DimodSeat

    # their reports are timings, which would make records of equal runs differ
    return DimodSeat(sampler(), name=name, plan=plan, draws_at_temperature=draws, options=options, tells=False)


def _remote(connect: Any, name: str, options: dict[str, Any]) -> Seat:
    from qanneal_opt.samplers.dimod_seat import DimodSeat

    return DimodSeat(
        connect,
        name=name,
        plan=NoPlan(),
        draws_at_temperature=False,
        options=options,
        deadline=REMOTE_DEADLINE,
    )
