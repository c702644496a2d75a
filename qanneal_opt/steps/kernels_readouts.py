r"""Compiled readouts of conjunctions: the exact change of the energy by a move of one unit.

Under an OR readout a sample pays its gain when some unit holds for it. Under a linear one the energy is
:math:`(m/2) \log(SSE/m + floor)` with the moved unit's coefficients, and the bias, at their least squares.

A change is asked for with the ``bar`` above which the move is rejected: where a bound that costs less is above it, that
bound is given.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from qanneal_opt.simd import at, borrowing, floats, words
from qanneal_opt.steps.kernels_bits import Array, masked_add, masked_total, ones, shared, size
from qanneal_opt.steps.kernels_units import NONE, Units

SPREAD = 1e-6  # what a unit that holds everywhere, or nowhere, has of the variance that a coefficient needs


class Or(NamedTuple):
    """Of an OR readout: what holds, and what that costs."""

    any: Array  # (W,) uint64: some unit holds
    often: Array  # (W,) uint64: two or more do
    gains: Array  # (64 W,) float32: a sample's loss where some unit holds, less that where none does
    wanted: Array  # (W,) uint64: gains below 0
    unwanted: Array  # (W,) uint64: gains above 0
    limits: Array  # (2, 2): least and largest gain of the wanted, and of the unwanted


class Linear(NamedTuple):
    """Of a linear readout with O outputs."""

    residuals: Array  # (O, 64 W) float32, mean 0, and 0 beyond the samples
    coefficients: Array  # (O, K)
    squares: Array  # (O,): sums of squared residuals
    overlaps: Array  # (O, K): sums of residuals over what a unit holds for
    trial: Array  # (2, O): coefficients and sums of squares after the move at hand
    samples: int
    floor: float


@borrowing
def cover(units: Units, readout: Or) -> None:
    """Write what one unit, and what two or more hold for."""
    any, often = readout.any, readout.often
    for w in range(len(any)):
        once = twice = NONE
        for k in range(len(units.truth)):
            twice |= once & units.truth[k, w]
            once |= units.truth[k, w]
        any[w], often[w] = once, twice


@borrowing
def others(units: Units, readout: Or, j: int, out: Array) -> None:
    """Write what the units but j hold for."""
    for w in range(len(out)):
        out[w] = readout.often[w] | (readout.any[w] & ~units.truth[j, w])


@borrowing
def or_change(units: Units, readout: Or, j: int, held: Array, price: float, bar: float, sets: Array) -> Any:
    """By how much the energy changes if unit j holds for ``held``, with a price; a bound of it that exceeds ``bar``."""
    more, less, truth = sets[2], sets[3], units.truth[j]
    found = spoilt = lost = spared = 0
    for w in range(len(held)):
        now = readout.any[w]
        then = readout.often[w] | (now & ~truth[w]) | held[w]
        more[w], less[w] = then & ~now, now & ~then
        found += ones(more[w] & readout.wanted[w])
        spoilt += ones(more[w] & readout.unwanted[w])
        lost += ones(less[w] & readout.wanted[w])
        spared += ones(less[w] & readout.unwanted[w])
    wanted, unwanted = readout.limits[0], readout.limits[1]
    bound = price + found * wanted[0] + spoilt * unwanted[0] - lost * wanted[1] - spared * unwanted[1]
    if bound > bar or (wanted[0] == wanted[1] and unwanted[0] == unwanted[1]):
        return bound
    return price + total(readout.gains, more) - total(readout.gains, less)


@borrowing
def total(row: Array, set: Array) -> Any:
    """The sum of a row over a set."""
    return np.float64(masked_total(floats(row.ctypes.data), words(set.ctypes.data), len(set)))


@borrowing
def overlaps(units: Units, readout: Linear) -> None:
    """Write what residuals sum up to over what each unit holds for."""
    for o in range(len(readout.squares)):
        for k in range(len(units.truth)):
            readout.overlaps[o, k] = total(readout.residuals[o], units.truth[k])


@borrowing
def linear_change(units: Units, readout: Linear, j: int, held: Array, price: float, bar: float) -> Any:
    """By how much the energy changes if unit j holds for ``held``, with a price; a bound of it that exceeds ``bar``.

    The coefficients go to ``readout.trial``.
    """
    m, outputs = readout.samples, len(readout.squares)
    before, after, both = units.held[j], size(held), shared(units.truth[j], held)
    narrow, wide = before - before * before / m, after - after * after / m
    old = new = 0.0
    for o in range(outputs):
        c, squares = readout.coefficients[o, j], readout.squares[o]
        without = squares + c * (2 * readout.overlaps[o, j] + c * narrow)
        overlap = total(readout.residuals[o], held) + c * (both - before * after / m)
        coefficient = overlap / wide if wide > SPREAD * m else 0.0
        left = max(without - coefficient * overlap, 0.0)
        readout.trial[0, o], readout.trial[1, o] = coefficient, left
        old += squares
        new += left
    old, new, half = old / (m * outputs) + readout.floor, new / (m * outputs) + readout.floor, 0.5 * m * outputs
    bound = price + half * (1 - old / new)  # log x >= 1 - 1/x
    return bound if bound > bar else price + half * math.log(new / old)


@borrowing
def refit(units: Units, readout: Linear, valid: Array, j: int, held: Array) -> None:
    """Take the coefficients of ``readout.trial`` for unit j, which now holds for ``held``."""
    m, truth = readout.samples, units.truth[j]
    before, after = units.held[j], size(held)
    for o in range(len(readout.squares)):
        old, new = readout.coefficients[o, j], readout.trial[0, o]
        row = floats(readout.residuals[o].ctypes.data)
        shift = np.float32((new * after - old * before) / m)
        for w in range(len(held)):
            masked_add(at(row, 64 * w), truth[w], np.float32(old))
            masked_add(at(row, 64 * w), held[w], np.float32(-new))
            masked_add(at(row, 64 * w), valid[w], shift)
        readout.coefficients[o, j], readout.squares[o] = new, readout.trial[1, o]
