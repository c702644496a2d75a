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
    """Make one sweep a temperature; return J, the best J at a sweep's end, proposals and acceptances."""
    order, counter = np.arange(codes.size), seed
    best_value, proposed, accepted, drifted = value, 0, 0, 0
    best[:] = codes
    for t in range(temperatures.size):
        for k in range(codes.size):
            counter += GOLDEN
            r = k + below(counter, codes.size - k)
            w = order[r]
            order[r], order[k] = order[k], w
            owner, target = grid.owner[w], 1 - codes[w]
            if grid.kinds[owner] < 2:
                continue
            if grid.kinds[owner] > 2:
                counter += GOLDEN
                target = below(counter, grid.kinds[owner] - 1)
                target += target >= codes[w]
            grid.where.value[w] = grid.levels[owner, target] * grid.scales[w]
            delta = change(net, grid.where, w, w + 1)
            counter += GOLDEN
            proposed += 1
            if accepts(delta, temperatures[t], np.float64(bits(counter) >> S11) * 2.0**-53):
                value = commit(net, grid.where, w, w + 1)
                codes[w] = target
                accepted += 1
                drifted += 1
        if drifted >= DRIFT or (drifted and t == temperatures.size - 1):
            value, drifted = synchronize(net), 0
        if value < best_value:
            best_value = value
            best[:] = codes
    return value, best_value, proposed, accepted
