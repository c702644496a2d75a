"""Samplers of QUBOs: by name, any `dimod.Sampler`, or your own, all behind one checked interface."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanneal_opt.samplers.annealer import Annealer
    from qanneal_opt.samplers.arrays import ArraySeat
    from qanneal_opt.samplers.base import RemoteError, SamplerError, Samples, Seat
    from qanneal_opt.samplers.dimod_seat import DimodSeat
    from qanneal_opt.samplers.exact import Exact
    from qanneal_opt.samplers.ocean import dwave_sa, dwave_tabu, greedy, sqa
    from qanneal_opt.samplers.registry import available, resolve
    from qanneal_opt.samplers.remote.hybrid import Hybrid
    from qanneal_opt.samplers.remote.ledger import Ledger
    from qanneal_opt.samplers.remote.qpu import QPU
    from qanneal_opt.samplers.tabu import Tabu
    from qanneal_opt.samplers.temperature import estimate_temperature

__all__ = [
    "QPU",
    "Annealer",
    "ArraySeat",
    "DimodSeat",
    "Exact",
    "Hybrid",
    "Ledger",
    "RemoteError",
    "SamplerError",
    "Samples",
    "Seat",
    "Tabu",
    "available",
    "dwave_sa",
    "dwave_tabu",
    "estimate_temperature",
    "greedy",
    "resolve",
    "sqa",
]

# Loaded at the first use of a name: the package itself stays quick to import.
_HOME = {
    "Annealer": "annealer",
    "ArraySeat": "arrays",
    "DimodSeat": "dimod_seat",
    "Exact": "exact",
    "Hybrid": "remote.hybrid",
    "Ledger": "remote.ledger",
    "QPU": "remote.qpu",
    "RemoteError": "base",
    "SamplerError": "base",
    "Samples": "base",
    "Seat": "base",
    "Tabu": "tabu",
    "available": "registry",
    "dwave_sa": "ocean",
    "dwave_tabu": "ocean",
    "estimate_temperature": "temperature",
    "greedy": "ocean",
    "resolve": "registry",
    "sqa": "ocean",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
