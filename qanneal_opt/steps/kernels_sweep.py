"""Compiled uniform sweeps: every discrete weight once, in random order, to another of its levels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .kernels import Net, synchronize
from .kernels_moves import Changes, accepts, change, commit
from .rows import compiled, scalar

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014)
MIX1, MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S11, S27, S30, S31, S32 = (np.uint64(n) for n in (11, 27, 30, 31, 32))
DRIFT = 512  # commits between two full forward passes: float32 sums of z drift by 1e-6 or less


class Grid(NamedTuple):
    """The discrete weights of some parameters, one behind the other: weight = levels[code] * scale."""

    begin: NDArray[np.int64]  # (owners + 1,) first weight of each parameter
    owner: NDArray[np.int64]  # (n,)
    where: Changes  # (n,) of each weight
    levels: NDArray[np.float32]  # (owners, most levels)
    kinds: NDArray[np.int64]  # (owners,) number of levels
    scales: NDArray[np.float32]  # (n,) of each weight


@scalar
def bits(counter: np.uint64) -> Any:
    """Give 64 random bits for a counter that goes in steps of GOLDEN (SplitMix64)."""
    x = (counter ^ (counter >> S30)) * MIX1
    x = (x ^ (x >> S27)) * MIX2
    return x ^ (x >> S31)


@scalar
def below(counter: np.uint64, count: int) -> Any:
    """Give a random integer in [0, count), uniform to 2^-32 count."""
    return np.int64(((bits(counter) >> S32) * np.uint64(count)) >> S32)


@compiled
def sweep(
    net: Net, grid: Grid, codes: NDArray[np.int64], best: NDArray[np.int64], temperatures: NDArray[np.float64],
    seed: np.uint64, value: float,
) -> Any:  # fmt: skip
    """Make one sweep a temperature; return J, the best J at the end of a sweep, proposals and acceptances."""
    ...
