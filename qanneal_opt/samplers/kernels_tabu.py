"""Compiled iterated tabu search of one QUBO: rounds of descents over barred bits, each from elite states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from qanneal_opt.rng import GOLDEN, below, bits
from qanneal_opt.samplers.kernels_flips import NEVER, Array, advance, find, flip, move_to, value
from qanneal_opt.simd import ONE, Row, add, at, cast_bits, compiled, entry, floats

BLOCK = 128  # the lowest key is kept for blocks of this many bits, and then looked for in one of them
TOLERANCE = 1e-9  # relative; what is below it is rounding and no improvement
CANDIDATES = 5  # a perturbation draws each flip from this many best ones
LEAST, SHARE = 10, 10  # and takes LEAST to n / SHARE steps

_POINTER: Any = types.CPointer
int32s = cast_bits(types.int64, _POINTER(types.int32), "inttoptr")


@compiled
def mix(a: Array, b: Array, out: Array, counter: np.uint64) -> None:
    """Write a state that has in each bit the value of ``a`` or of ``b``, at random where they differ."""
    for j in range(len(out)):
        counter += GOLDEN
        out[j] = a[j] if bits(counter) & np.uint64(1) else b[j]


@compiled
def perturb(field: Row, sign: Row, bar: Row, rows: Row, width: int, n: int, steps: int, counter: np.uint64) -> Any:
    """Flip ``steps`` different bits, each drawn from the few best flips; give what that adds to the energy."""
    best, change = np.empty(CANDIDATES, np.int64), np.empty(CANDIDATES, np.float32)
    for j in range(n):
        bar[j] = 0
    added = 0.0
    for _ in range(steps):
        count = 0
        for j in range(n):
            d = sign[j] * field[j]
            if bar[j] == 0 and (count < CANDIDATES or d < change[count - 1]):
                count = min(count + 1, CANDIDATES)
                place = count - 1
                while place > 0 and change[place - 1] > d:
                    best[place], change[place] = best[place - 1], change[place - 1]
                    place -= 1
                best[place], change[place] = j, d
        counter += GOLDEN
        k = best[below(counter, count)]
        bar[k] = 1
        added += flip(field, sign, rows, width, k)
    return added


@compiled
def descend(
    field: Row, sign: Row, bar: Row, rows: Row, width: int, lows: Array, best: Array, energy: float, depth: int,
    limit: int, tenure: int, spread: int, counter: np.uint64,
) -> Any:  # fmt: skip
    """Tabu search until ``depth`` flips in turn found nothing better, or for ``limit`` flips.

    Each step takes the best flip that is not barred, ties at random, and bars it for ``tenure`` to
    ``tenure + spread - 1`` steps. ``best`` gets the best state, at the start the present one.

    Returns: the energy at the end, the lowest one, the number of flips.
    """
    n = len(best)
    for j in range(n):
        bar[j] = 0
        best[j] = sign[j] < 0
    lowest, k, weight = energy, 0, np.float32(0)
    done = last = 0
    while done < limit and done - last < depth:
        now = np.int32(done)
        row = at(rows, k * width)
        low = NEVER
        for b in range(len(lows)):
            o = b * BLOCK
            size = min(BLOCK, width - o)
            lows[b] = advance(at(field, o), at(sign, o), at(bar, o), at(row, o), weight, now, size)
            low = min(low, lows[b])
        counter += GOLDEN
        random = bits(counter)
        b = below(counter, len(lows))
        while lows[b] != low:
            b = b + 1 if b + 1 < len(lows) else 0
        o = b * BLOCK
        size = min(BLOCK, width - o)
        first = np.int32((random & np.uint64(0xFFFF)) % np.uint64(size))
        k = o + find(at(field, o), at(sign, o), at(bar, o), now, low, first, size)
        weight = sign[k]
        sign[k] = -weight
        energy += value(low)
        done += 1
        bar[k] = done + tenure + np.int64(((random >> np.uint64(16)) & np.uint64(0xFFFF)) % np.uint64(spread))
        if energy < lowest - TOLERANCE * abs(lowest):
            lowest, last = energy, done
            for j in range(n):
                best[j] = sign[j] < 0
    add(field, weight, at(rows, k * width), width)
    return energy, lowest, done


@compiled
def keep(best: Array, energy: float, elites: Array, energies: Array) -> None:
    """Put a state among the elites in the place of the worst, unless it is there or worse."""
    worst = 0
    for e in range(len(elites)):
        if energies[e] < np.inf and (elites[e] == best).all():
            return
        if energies[e] > energies[worst]:
            worst = e
    if energy < energies[worst]:
        energies[worst] = energy
        elites[worst] = best


@entry
def search(
    linear: Array, rows: Array, elites: Array, energies: Array, counter: np.uint64, flips: int, limit: int, depth: int,
    tenure: int, spread: int, space: Array,
) -> Any:  # fmt: skip
    """Iterated tabu search in rounds: each starts from elites, and its best may become one.

    A round starts from one elite after a perturbation, or from a mixture of two. While all energies are infinite
    the first elite is a start, not judged yet.

    Args:
        linear: ``(width,)`` float32, zeros from n on.
        rows: ``(n, width)`` float32.
        elites: ``(E, n)`` uint8.
        energies: of the elites, ``(E,)`` float64, infinite in free places.
        counter: of the random numbers.
        flips: no round begins after so many.
        limit: not below ``flips``; a round ends after so many.
        depth: flips in turn without improvement that end a round.
        tenure: steps for which a flipped bit is barred, at least.
        spread: of that time; ``tenure + spread <= n``.
        space: ``(3, width)`` float32, to work in.

    Returns:
        The flips done, the rounds, and the counter to go on with.
    """
    n, width = rows.shape
    matrix, field = floats(rows.ctypes.data), floats(space.ctypes.data)
    sign, bar = at(field, width), int32s(space.ctypes.data + 8 * width)
    for j in range(width):
        field[j], sign[j], bar[j] = linear[j], ONE, NEVER
    lows, best = np.empty(-(-width // BLOCK), np.int32), np.empty(n, np.uint8)
    energy, done, rounds = 0.0, 0, 0
    while done < flips:
        filled = 0
        while filled < len(energies) and energies[filled] < np.inf:
            filled += 1
        counter += GOLDEN
        first = below(counter, max(filled, 1))
        counter += GOLDEN
        second = below(counter, max(filled, 1))
        counter += GOLDEN
        if first != second and bits(counter) & np.uint64(1):
            mix(elites[first], elites[second], best, counter)
            counter += np.uint64(n) * GOLDEN
            energy += move_to(best, field, sign, matrix, width)
        else:
            energy += move_to(elites[first], field, sign, matrix, width)
            if filled:
                counter += GOLDEN
                steps = min(n, LEAST + below(counter, max(1, n // SHARE - LEAST + 1)))
                energy += perturb(field, sign, bar, matrix, width, n, steps, counter)
                counter += np.uint64(steps) * GOLDEN
        energy, lowest, count = descend(
            field, sign, bar, matrix, width, lows, best, energy, depth, limit - done, tenure, spread, counter
        )
        counter += np.uint64(count) * GOLDEN
        done += count
        rounds += 1
        keep(best, lowest, elites, energies)
    return done, rounds, counter
