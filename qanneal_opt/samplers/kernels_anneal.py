"""Compiled annealing of bits: chains of sweeps with local fields in float32.

    f_i = l_i + sum_j Q_ij b_j,    d_i = s_i f_i the price of flipping bit i,    s_i = 1 - 2 b_i

A flip of bit i adds s_i Q_i to the fields: one contiguous row, or the few entries of a sparse one.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.rng import GOLDEN, bits
from qanneal_opt.samplers.kernels_rows import add_row, row_length
from qanneal_opt.samplers.lanes import below, lowest, noise, scale
from qanneal_opt.samplers.layout import LANES
from qanneal_opt.simd import ONE, ZERO, Float, Row, at, entry, floats, scalar

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]

NEVER = np.float32(1e30)  # the price of what must not be flipped: padding
ROUNDING = np.float32(-1e-6)  # a descent takes what lowers the energy by more, in units of the largest entry
TOP = np.uint64(63)


@scalar
def sweep(step: Row, field: Row, cost: Row, limit: Row, rows: Any, p: int, width: int) -> Any:
    """Visit all bits in order, flip i where step_i f_i + cost_i < limit_i; give the number of flips."""
    moves = 0
    for o in range(0, width, LANES):
        s, f, c, e = at(step, o), at(field, o), at(cost, o), at(limit, o)
        mask, moved = below(s, f, c, e), np.int64(0)
        while mask != 0:
            k = lowest(mask)
            add_row(field, s[k], rows, p, o + k)
            moved |= np.int64(1) << k
            moves += 1
            mask = below(s, f, c, e) & (np.int64(-2) << k)  # those after k, whose fields it has changed
        if moved != 0:
            scale(s, moved, -ONE)
    return moves


@scalar
def begin(
    step: Row, field: Row, linear: Floats, rows: Any, states: NDArray[np.uint8], p: int, r: int, given: int,
    key: np.uint64,
) -> Any:  # fmt: skip
    """Start from the row of ``states`` if ``r`` is below ``given``, else from random bits; count the ones."""
    ones = 0
    for i in range(linear.shape[1]):
        step[i], field[i] = ONE, linear[p, i]
    for i in range(states.shape[2]):
        if states[p, r, i] != 0 if r < given else bits(key + np.uint64(i + 1) * GOLDEN) >> TOP != 0:
            step[i] = -ONE
            add_row(field, ONE, rows, p, i)
            ones += 1
    return ones


@scalar
def renew(step: Row, field: Row, linear: Floats, rows: Any, n: int, p: int) -> None:
    """Make the fields anew: what many additions have rounded away comes back."""
    for i in range(linear.shape[1]):
        field[i] = linear[p, i]
    for i in range(n):
        if step[i] < ZERO:
            add_row(field, ONE, rows, p, i)


@entry
def anneal(
    linear: Floats, rows: Any, temperatures: Floats, keys: NDArray[np.uint64], given: int, states: NDArray[np.uint8],
    tally: Ints, scratch: Floats, place: Ints, end: int, barker: Float, descend: bool, work: int,
) -> None:  # fmt: skip
    """Run chains ``place[0]`` to ``end`` until all are done or about ``work`` numbers were touched.

    Chain c is read c // B of problem c % B. It starts from its row of ``states`` (B, R, n) if the read is
    among the first ``given``, from random bits otherwise, sweeps once for each of ``temperatures`` (B or 1, S),
    and ends with a descent if ``descend``. ``tally`` (S + 1,): flips in each sweep, and those of descents.
    ``place``: the chain and its next sweep, -1 before it begins; ``scratch`` keeps its state in between.
    """
    count, width = linear.shape
    n, sweeps = states.shape[2], temperatures.shape[1]
    step = floats(scratch.ctypes.data)
    field, cost, limit = at(step, width), at(step, 2 * width), at(step, 3 * width)
    chain, t = place[0], place[1]
    while chain < end:
        p, r = chain % count, chain // count
        key = bits(keys[p] + np.uint64(r + 1) * GOLDEN)
        flips = 0
        if t < 0:
            flips = begin(step, field, linear, rows, states, p, r, given, key)
            for i in range(width):
                cost[i] = ZERO if i < n else NEVER
        elif t < sweeps:
            temperature = temperatures[p if temperatures.shape[0] > 1 else 0, t]
            counter = key + np.uint64(n + 1 + t * (width >> 1)) * GOLDEN
            noise(limit, width, counter, temperature, barker)
            flips = sweep(step, field, cost, limit, rows, p, width)
            tally[t] += flips
        else:
            if descend:
                renew(step, field, linear, rows, n, p)
                for i in range(width):
                    limit[i] = ROUNDING
                for _ in range(n + 100):  # rounding might turn in circles
                    down = sweep(step, field, cost, limit, rows, p, width)
                    flips += down
                    if down == 0:
                        break
                tally[sweeps] += flips
            for i in range(n):
                states[p, r, i] = step[i] < ZERO
            chain += 1
            t = -2
        t += 1
        work -= flips * row_length(rows) + width
        if work < 0:
            break
    place[0], place[1] = chain, t
