"""Compiled annealing of words: all bits of one weight are drawn at once.

With the other bits held fixed, the 2^w states k of a word have the energies

    e_k = sum_j k_j g_j + sum_{i<j} k_i k_j Q_ij,    g_j = f_j - sum_i b_i Q_ij,    f_j = l_j + sum_i Q_ij b_i

where k_j is bit j of k and i, j run over the word; b is what it holds now. It takes the state k with probability
e^(-e_k / T) / sum, its conditional distribution (Gibbs). Chains and random numbers are as in `kernels_anneal`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.rng import GOLDEN, bits, uniform
from qanneal_opt.samplers.kernels_anneal import ROUNDING, Floats, Ints, begin, renew
from qanneal_opt.samplers.lanes import shift
from qanneal_opt.simd import ONE, ZERO, Float, Row, at, compiled, entry, exp, floats, scalar


@scalar
def state(step: Row, word: int) -> Any:
    """Give the bits of a word as an integer, the first bit lowest."""
    held = np.int64(0)
    for j in range(word):
        held |= np.int64(step[j] < ZERO) << j
    return held


@scalar
def levels(energy: Row, field: Row, held: int, block: Row, width: int, word: int) -> Any:
    """Write the energies of all states of a word, relative to that of state 0; give the lowest state."""
    energy[0] = ZERO
    for j in range(word):
        row, half = at(block, j * width), 1 << j
        own = field[j]
        for i in range(word):
            if held >> i & 1:
                own -= row[i]
        energy[half] = own  # of setting bit j, next to the lower bits r; then with what they hold themselves
        for i in range(j):
            for r in range(1 << i):
                energy[half + (1 << i) + r] = energy[half + r] + row[i]
        for r in range(half):
            energy[half + r] += energy[r]
    lowest = 0
    for k in range(1 << word):
        if energy[k] < energy[lowest]:
            lowest = k
    return lowest


@compiled
def weights(energy: Row, low: Float, beta: Float, count: int) -> Any:
    """Put Boltzmann weights in place of energies; give their sum."""
    total = ZERO
    for k in range(count):
        weight = exp(beta * (low - energy[k]))
        energy[k] = weight
        total += weight
    return total


@scalar
def drawn(weight: Row, rest: Float, count: int, likely: int) -> Any:
    """Give the state at which the weights sum up to more than ``rest``; ``likely`` where rounding lets none."""
    for k in range(count):
        if rest < weight[k]:
            return k
        rest -= weight[k]
    return likely


@scalar
def change(step: Row, field: Row, rows: Row, width: int, first: int, word: int, differs: int) -> Any:
    """Flip the bits of a word that ``differs`` has set; give how many."""
    flips = 0
    for j in range(word):
        if differs >> j & 1:
            i = first + j
            shift(field, step[i], at(rows, i * width), width)
            step[i] = -step[i]
            flips += 1
    return flips


@entry
def anneal_words(
    linear: Floats, rows: Floats, temperatures: Floats, keys: NDArray[np.uint64], given: int, states: NDArray[np.uint8],
    tally: Ints, scratch: Floats, place: Ints, end: int, barker: Float, descend: bool, work: int, word: int,
) -> None:  # fmt: skip
    """Do as `kernels_anneal.anneal`, a word of ``word`` bits at a time; a descent ends where no word can improve.

    ``barker`` does not matter: a draw from the conditional distribution is right at any temperature.
    """
    count, width = linear.shape
    n, sweeps, size = states.shape[2], temperatures.shape[1], 1 << word
    step = floats(scratch.ctypes.data)
    field, energy = at(step, width), at(step, 2 * width)
    chain, t = place[0], place[1]
    while chain < end:
        p, r = chain % count, chain // count
        row = at(floats(rows.ctypes.data), (p if rows.shape[0] > 1 else 0) * n * width)
        key = bits(keys[p] + np.uint64(r + 1) * GOLDEN)
        flips = 0
        if t < 0:
            flips = begin(step, field, linear, rows, states, p, r, given, key)
        elif t < sweeps:
            beta = ONE / temperatures[p if temperatures.shape[0] > 1 else 0, t]
            counter = key + np.uint64(n + 1 + t * n) * GOLDEN
            for first in range(0, n, word):
                block, held = at(row, first * width + first), state(at(step, first), word)
                lowest = levels(energy, at(field, first), held, block, width, word)
                total = weights(energy, energy[lowest], beta, size)
                rest = total * np.float32(uniform(counter + np.uint64(first) * GOLDEN))
                flips += change(step, field, row, width, first, word, held ^ drawn(energy, rest, size, lowest))
            tally[t] += flips
        else:
            if descend:
                renew(step, field, linear, rows, n, p)
                for _ in range(n + 100):  # rounding might turn in circles
                    down = 0
                    for first in range(0, n, word):
                        block, held = at(row, first * width + first), state(at(step, first), word)
                        lowest = levels(energy, at(field, first), held, block, width, word)
                        if energy[lowest] - energy[held] < ROUNDING:
                            down += change(step, field, row, width, first, word, held ^ lowest)
                    flips += down
                    if down == 0:
                        break
                tally[sweeps] += flips
            for i in range(n):
                states[p, r, i] = step[i] < ZERO
            chain += 1
            t = -2
        t += 1
        work -= (flips + 1) * width + 4 * n * size // word  # a state takes as long as four numbers of a row
        if work < 0:
            break
    place[0], place[1] = chain, t
