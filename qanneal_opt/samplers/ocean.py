"""Seats of the samplers that come from D-Wave's packages; each is imported when its seat is made or first used."""

from __future__ import annotations

from typing import Any

from qanneal_opt.samplers.base import Seat
from qanneal_opt.samplers.schedules import Annealing, NoPlan, PathIntegral, Tabu

__all__ = ["dwave_sa", "dwave_tabu", "greedy", "hybrid", "qpu", "sqa"]

REMOTE_DEADLINE = 120.0
"""Seconds for an answer from D-Wave's machines, queue and connection included."""


def dwave_sa(*, minimise: int = 400, draw: int = 200, **options: Any) -> Seat:
    """Simulated annealing of dwave-samplers: sweeps to minimise and to draw at a temperature, further arguments."""
    from dwave.samplers import SimulatedAnnealingSampler

    return _local(SimulatedAnnealingSampler(), "dwave-sa", Annealing(minimise, draw), True, options)


def sqa(*, minimise: int = 100, draw: int = 200, **options: Any) -> Seat:
    """Path-integral annealing of dwave-samplers: sweeps to minimise and to draw at a temperature, and so on."""
    from dwave.samplers import PathIntegralAnnealingSampler

    return _local(PathIntegralAnnealingSampler(), "sqa", PathIntegral(minimise, draw), True, options)


def dwave_tabu(*, moves: int = 100, restarts: int = 10, **options: Any) -> Seat:
    """Tabu search of dwave-samplers: moves a variable between restarts, restarts, further arguments."""
    from dwave.samplers import TabuSampler

    return _local(TabuSampler(), "dwave-tabu", Tabu(moves, restarts), False, options)


def greedy(**options: Any) -> Seat:
    """Steepest descent of dwave-samplers, from random or given states."""
    from dwave.samplers import SteepestDescentSolver

    return _local(SteepestDescentSolver(), "greedy", NoPlan(), False, options)


def qpu(**options: Any) -> Seat:
    """A D-Wave quantum annealer by minor embedding; it samples at a temperature of its own."""

    def connect() -> Any:
        from dwave.system import DWaveSampler, EmbeddingComposite

        return EmbeddingComposite(DWaveSampler())

    return _remote(connect, "qpu", options)


def hybrid(**options: Any) -> Seat:
    """D-Wave's Leap hybrid solver, which returns one state."""

    def connect() -> Any:
        from dwave.system import LeapHybridSampler

        return LeapHybridSampler()

    return _remote(connect, "hybrid", options)


def _local(sampler: Any, name: str, plan: Any, draws: bool, options: dict[str, Any]) -> Seat:
    from qanneal_opt.samplers.dimod_seat import DimodSeat

    # their reports are timings, which would make records of equal runs differ
    return DimodSeat(sampler, name=name, plan=plan, draws_at_temperature=draws, options=options, tells=False)


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
