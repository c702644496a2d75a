"""Compiled annealing of conjunctions: moves of literals, accepted by the exact change of the energy."""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.rng import GOLDEN, GRAIN, S40, below, bits, uniform
from qanneal_opt.simd import HALF, borrowing, entry, log
from qanneal_opt.steps.kernels_bits import Array, size
from qanneal_opt.steps.kernels_readouts import Linear, Or, cover, linear_change, or_change, others, overlaps, refit
from qanneal_opt.steps.kernels_units import (
    NONE,
    Units,
    another_level,
    changed,
    conjunction,
    draw,
    from_sample,
    grown,
    rebuild,
    swap,
)

LEVEL, SWAP, CLEAR = 0.45, 0.93, 0.95  # cumulative: 45% level changes, 48% swaps, 2% clear a unit, 5% from a sample
START = 4  # a linear readout's units grow from a sample with at most so many literals


@borrowing
def from_what_is_missed(
    units: Units, readout: Or, columns: Array, j: int, l0: float, most: int, row: Array, order: Array,
    sets: Array, counter: np.uint64,
) -> int:  # fmt: skip
    """Write a unit grown from a sample that is wanted and that no other unit covers; give its literals, 0 if none."""
    held, wanted, unwanted = sets[1], sets[2], sets[3]
    others(units, readout, j, held)
    for w in range(len(held)):
        wanted[w], unwanted[w] = readout.wanted[w] & ~held[w], readout.unwanted[w] & ~held[w]
    count = size(wanted)
    if count == 0:
        return 0
    s = draw(wanted, count, counter)
    return grown(columns, s, wanted, unwanted, l0, most, row, order, counter + GOLDEN)


@entry
def anneal(
    columns: Array, valid: Array, units: Units, cover_of: Or, linear: Linear, temperatures: Array, each: int,
    l0: float, most: int, key: np.uint64, sets: Array, row: Array, order: Array, best: Array,
) -> Any:  # fmt: skip
    """Anneal the literals of a chain; ``best`` gets those of the lowest energy.

    Args:
        columns: (n, W) uint64, the samples for which a column is 1.
        valid: (W,) uint64, the samples.
        units: with their literals; the rest is written here.
        cover_of: of an OR readout.
        linear: of a linear readout; without outputs where the readout is OR.
        temperatures: in units of the energy, one for ``each`` moves; 0 accepts what does not raise it.
        each: moves at a temperature.
        l0: energy of a literal.
        most: literals of a unit that grows from a sample.
        key: of the random numbers.
        sets: (4, W) uint64, scratch.
        row: (n,) int8, scratch.
        order: (n,) int64, scratch.
        best: (K, n) int8.

    Returns: the lowest energy, from that of the start, and how many moves were accepted.
    """
    regress = len(linear.squares) > 0
    n_units, n = units.literals.shape
    held = sets[0]
    for j in range(n_units):
        rebuild(units, columns, valid, j)
    if regress:
        overlaps(units, linear)
    else:
        cover(units, cover_of)
    best[:] = units.literals
    energy = lowest = 0.0
    taken = 0
    counter = key
    for temperature in temperatures:
        for _ in range(each):
            counter += GOLDEN * np.uint64(8)
            draws = counter + GOLDEN
            j = below(counter, n_units)
            kind = uniform(draws)
            draws += GOLDEN
            drop = add = np.int64(-1)
            level = 0
            count = units.count[j]
            if kind < SWAP:
                drop, add, level = another_level(units, j, draws) if kind < LEVEL else swap(units, j, draws)
                changed(units, columns, valid, j, drop, add, level, held)
                after = count - (1 if drop >= 0 else 0) + (1 if add >= 0 else 0)
            elif kind < CLEAR:
                after = 0
                row[:] = 0
                held[:] = NONE
            else:
                chain = bits(draws)  # a stream of its own: it draws as many numbers as it takes
                if regress:
                    s = draw(valid, linear.samples, draws + GOLDEN)
                    after = from_sample(columns, s, min(START, n), row, chain)
                else:
                    after = from_what_is_missed(units, cover_of, columns, j, l0, most, row, order, sets, chain)
                    if after == 0:
                        continue
                conjunction(columns, valid, row, held)
            price = l0 * (after - count)
            # Metropolis: a change is accepted with probability exp(-change / T), if it is at most -T log of a uniform.
            bar = -temperature * log((np.float32(bits(counter + GOLDEN * np.uint64(7)) >> S40) + HALF) * GRAIN)
            if regress:
                change = linear_change(units, linear, j, held, price, bar)
            else:
                change = or_change(units, cover_of, j, held, price, bar, sets)
            if change > bar:
                continue
            if regress:
                refit(units, linear, valid, j, held)
            if kind < SWAP:
                if drop >= 0:
                    units.literals[j, drop] = 0
                if add >= 0:
                    units.literals[j, add] = level
            else:
                units.literals[j] = row
            rebuild(units, columns, valid, j)
            if regress:
                overlaps(units, linear)
            else:
                cover(units, cover_of)
            taken += 1
            energy += change
            if energy < lowest - 1e-6:
                lowest = energy
                best[:] = units.literals
    return lowest, taken
