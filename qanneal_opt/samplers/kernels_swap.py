"""Compiled annealing at a fixed number of ones: a one and a zero change places.

    d = f_j - f_i - Q_ij    the price of moving a one from i to j,    f_i = l_i + sum_j Q_ij b_j

The places of ones, and those of zeros, are kept in a list each. A move takes an entry of either, both uniform, and
exchanges them; the way back is as likely. Chains and random numbers are as in `kernels_anneal`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.rng import GOLDEN, below, bits
from qanneal_opt.samplers.kernels_anneal import ROUNDING, Floats, Ints
from qanneal_opt.samplers.lanes import HIGH, shift, threshold
from qanneal_opt.simd import ONE, Float, Row, at, entry, floats, ints, scalar


@scalar
def exchange(order: Row, p: int, q: int, field: Row, rows: Row, width: int) -> None:
    """Move the one at place p of the list to where the zero at place q is."""
    i, j = order[p], order[q]
    shift(field, -ONE, at(rows, i * width), width)
    shift(field, ONE, at(rows, j * width), width)
    order[p], order[q] = j, i


@entry
def anneal_swaps(
    linear: Floats, rows: Floats, temperatures: Floats, keys: NDArray[np.uint64], given: int, states: NDArray[np.uint8],
    tally: Ints, scratch: Floats, place: Ints, end: int, barker: Float, descend: bool, work: int, ones: int,
) -> None:  # fmt: skip
    """Do as `kernels_anneal.anneal`, with ``ones`` ones in every state; a sweep proposes n swaps, if there are any."""
    count, width = linear.shape
    n, sweeps = states.shape[2], temperatures.shape[1]
    zeros = n - ones
    field, order = floats(scratch.ctypes.data), ints(scratch.ctypes.data + 8 * width)  # order: ones first
    chain, t = place[0], place[1]
    while chain < end:
        p, r = chain % count, chain // count
        row = at(floats(rows.ctypes.data), (p if rows.shape[0] > 1 else 0) * n * width)
        key = bits(keys[p] + np.uint64(r + 1) * GOLDEN)
        moves = 0
        if t < 0:
            if r < given:
                a, z = 0, ones
                for i in range(n):
                    if states[p, r, i] != 0:
                        order[a] = i
                        a += 1
                    else:
                        order[z] = i
                        z += 1
            else:
                for i in range(n):
                    order[i] = i
                for i in range(ones):  # the first draws of a shuffle
                    j = i + below(key + np.uint64(i + 1) * GOLDEN, n - i)
                    order[i], order[j] = order[j], order[i]
            for i in range(width):
                field[i] = linear[p, i]
            for a in range(ones):
                shift(field, ONE, at(row, order[a] * width), width)
            moves = ones
        elif t < sweeps:
            temperature = temperatures[p if temperatures.shape[0] > 1 else 0, t]
            counter = key + np.uint64(n + 1 + 3 * t * n) * GOLDEN
            for s in range(n if ones > 0 and zeros > 0 else 0):
                first = counter + np.uint64(3 * s) * GOLDEN
                a, z = below(first, ones), ones + below(first + GOLDEN, zeros)
                i, j = order[a], order[z]
                limit = temperature * threshold(bits(first + GOLDEN + GOLDEN) >> HIGH, barker)
                if field[j] - field[i] - row[i * width + j] < limit:
                    exchange(order, a, z, field, row, width)
                    moves += 1
            tally[t] += moves
        else:
            if descend:
                for i in range(width):  # what many additions have rounded away comes back
                    field[i] = linear[p, i]
                for a in range(ones):
                    shift(field, ONE, at(row, order[a] * width), width)
                for _ in range(n + 100):  # rounding might turn in circles
                    down = 0
                    for a in range(ones):
                        i, best, least = order[a], 0, ROUNDING
                        for z in range(ones, n):
                            change = field[order[z]] - field[i] - row[i * width + order[z]]
                            if change < least:
                                best, least = z, change
                        if best > 0:
                            exchange(order, a, best, field, row, width)
                            down += 1
                    moves += down
                    if down == 0:
                        break
                tally[sweeps] += moves
            for i in range(n):
                states[p, r, i] = 0
            for a in range(ones):
                states[p, r, order[a]] = 1
            chain += 1
            t = -2
        t += 1
        work -= (2 * moves + 1) * width
        if work < 0:
            break
    place[0], place[1] = chain, t
