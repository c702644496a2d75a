r"""Compiled annealing of conjunctions: moves of literals, and the exact change of the energy by each.

Under an OR readout a sample pays its gain when some unit holds for it. Under a linear one the energy is
:math:`(m/2) \log(SSE/m + floor)` with the moved unit's coefficients, and the bias, at their least squares.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from qanneal_opt.rng import GOLDEN, below, bits, uniform
from qanneal_opt.simd import at, compiled, entry, floats
from qanneal_opt.steps.kernels_bits import Array, masked_add, masked_sum, shared, size
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
SPREAD = 1e-6  # what a unit that holds everywhere, or nowhere, has of the variance that a coefficient needs
START = 4  # a linear readout's units grow from a sample with at most so many literals


class Or(NamedTuple):
    """Of an OR readout: what holds, and what that costs."""

    any: Array  # (W,) uint64: some unit holds
    often: Array  # (W,) uint64: two or more do
    gains: Array  # (64 W,) float32: a sample's loss where some unit holds, less that where none does
    wanted: Array  # (W,) uint64: gains below 0
    unwanted: Array  # (W,) uint64: gains above 0


class Linear(NamedTuple):
    """Of a linear readout with O outputs."""

    residuals: Array  # (O, 64 W) float32, mean 0, and 0 beyond the samples
    coefficients: Array  # (O, K)
    squares: Array  # (O,): sums of squared residuals
    trial: Array  # (2, O): coefficients and sums of squares after the move at hand
    samples: int
    floor: float


@compiled
def cover(units: Units, readout: Or) -> None:
    """Write what one unit, and what two or more hold for."""
    any, often = readout.any, readout.often
    for w in range(len(any)):
        once = twice = NONE
        for k in range(len(units.truth)):
            twice |= once & units.truth[k, w]
            once |= units.truth[k, w]
        any[w], often[w] = once, twice


@compiled
def others(units: Units, readout: Or, j: int, out: Array) -> None:
    """Write what the units but j hold for."""
    for w in range(len(out)):
        out[w] = readout.often[w] | (readout.any[w] & ~units.truth[j, w])


@compiled
def or_change(units: Units, readout: Or, j: int, held: Array) -> float:
    """By how much the losses change if unit j holds for ``held``."""
    gains, change = floats(readout.gains.ctypes.data), np.float32(0)
    for w in range(len(held)):
        now = readout.any[w]
        then = readout.often[w] | (now & ~units.truth[j, w]) | held[w]
        if now != then:
            change += masked_sum(at(gains, 64 * w), then & ~now) - masked_sum(at(gains, 64 * w), now & ~then)
    return np.float64(change)


@compiled
def masked_total(row: Array, words: Array) -> float:
    """The sum of a row over a set."""
    pointer, total = floats(row.ctypes.data), np.float32(0)
    for w in range(len(words)):
        if words[w] != NONE:
            total += masked_sum(at(pointer, 64 * w), words[w])
    return np.float64(total)


@compiled
def code(readout: Linear, squares: Array) -> float:
    """The energy of sums of squares."""
    m = readout.samples * len(squares)
    return 0.5 * m * math.log(squares.sum() / m + readout.floor)


@compiled
def linear_change(units: Units, readout: Linear, j: int, held: Array) -> float:
    """By how much the energy changes if unit j holds for ``held``; its coefficients go to ``readout.trial``."""
    m, truth = readout.samples, units.truth[j]
    before, after, both = size(truth), size(held), shared(truth, held)
    narrow, wide = before - before * before / m, after - after * after / m
    for o in range(len(readout.squares)):
        residual, c = readout.residuals[o], readout.coefficients[o, j]
        without = readout.squares[o]
        overlap = masked_total(residual, held)
        if c != 0.0:
            without += 2 * c * masked_total(residual, truth) + c * c * narrow
            overlap += c * (both - before * after / m)
        coefficient = overlap / wide if wide > SPREAD * m else 0.0
        readout.trial[0, o], readout.trial[1, o] = coefficient, max(without - coefficient * overlap, 0.0)
    return code(readout, readout.trial[1]) - code(readout, readout.squares)


@compiled
def refit(units: Units, readout: Linear, valid: Array, j: int, held: Array) -> None:
    """Take the coefficients of ``readout.trial`` for unit j, which now holds for ``held``."""
    m, truth = readout.samples, units.truth[j]
    before, after = size(truth), size(held)
    for o in range(len(readout.squares)):
        old, new = readout.coefficients[o, j], readout.trial[0, o]
        row = floats(readout.residuals[o].ctypes.data)
        shift = np.float32((new * after - old * before) / m)
        for w in range(len(held)):
            masked_add(at(row, 64 * w), truth[w], np.float32(old))
            masked_add(at(row, 64 * w), held[w], np.float32(-new))
            masked_add(at(row, 64 * w), valid[w], shift)
        readout.coefficients[o, j], readout.squares[o] = new, readout.trial[1, o]


@compiled
def from_what_is_missed(
    units: Units, readout: Or, columns: Array, j: int, l0: float, most: int, row: Array, sets: Array,
    counter: np.uint64,
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
    return grown(columns, s, wanted, unwanted, l0, most, row, counter + GOLDEN)


@entry
def anneal(
    columns: Array, valid: Array, units: Units, cover_of: Or, linear: Linear, temperatures: Array, each: int,
    l0: float, most: int, key: np.uint64, sets: Array, row: Array, best: Array,
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
        best: (K, n) int8.

    Returns: the lowest energy, from that of the start, and how many moves were accepted.
    """
    regress = len(linear.squares) > 0
    n_units, n = units.literals.shape
    held = sets[0]
    for j in range(n_units):
        rebuild(units, columns, valid, j)
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
                    after = from_what_is_missed(units, cover_of, columns, j, l0, most, row, sets, chain)
                    if after == 0:
                        continue
                conjunction(columns, valid, row, held)
            change = l0 * (after - count)
            if regress:
                change += linear_change(units, linear, j, held)
            else:
                change += or_change(units, cover_of, j, held)
            if change > 0.0 and not (
                temperature > 0.0 and uniform(counter + GOLDEN * np.uint64(7)) < math.exp(-change / temperature)
            ):
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
            if not regress:
                cover(units, cover_of)
            taken += 1
            energy += change
            if energy < lowest - 1e-6:
                lowest = energy
                best[:] = units.literals
    return lowest, taken
