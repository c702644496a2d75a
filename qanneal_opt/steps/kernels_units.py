"""Conjunctions of literals over bit-packed samples: what one holds for after a move, in time that no length enters.

A unit keeps two sets of samples: those for which all its literals hold, and those that two literals or more
exclude. Without the literal v it holds where it held, and where v alone excluded: not twice, and held or v fails.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from qanneal_opt.rng import GOLDEN, below, bits
from qanneal_opt.simd import borrowing, words
from qanneal_opt.steps.kernels_bits import BLOCK, Array, ones, overlap

NONE, ALL, ONE = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1)


class Units(NamedTuple):
    """K conjunctions over n columns and W words of samples."""

    literals: Array  # (K, n) int8: 1, -1 for the negation, 0 for none
    listed: Array  # (K, n) int64: the columns of a unit's literals come first
    count: Array  # (K,) int64: how many they are; a unit without any holds for no sample
    truth: Array  # (K, W) uint64: the samples for which a unit holds
    twice: Array  # (K, W) uint64: the samples that two of its literals or more exclude
    held: Array  # (K,) int64: for how many samples a unit holds


@borrowing
def opposite(level: int) -> Any:
    """What turns a column's word into that of its literal: nothing, or all bits."""
    return ALL if level < 0 else NONE


@borrowing
def rebuild(units: Units, columns: Array, valid: Array, j: int) -> None:
    """Take a unit's literals as they are, and write what is kept of them."""
    literals, listed, truth, twice = units.literals[j], units.listed[j], units.truth[j], units.twice[j]
    count = 0
    for i in range(len(literals)):
        if literals[i] != 0:
            listed[count] = i
            count += 1
    units.count[j] = count
    held = 0
    for w in range(len(valid)):
        once = often = NONE
        for k in range(count):
            excluded = ~(columns[listed[k], w] ^ opposite(literals[listed[k]]))
            often |= once & excluded
            once |= excluded
        truth[w] = valid[w] & ~once if count else NONE
        twice[w] = often
        held += ones(truth[w])
    units.held[j] = held


@borrowing
def changed(units: Units, columns: Array, valid: Array, j: int, drop: int, add: int, level: int, out: Array) -> None:
    """Write for which samples unit j would hold without its literal ``drop`` and with ``add``; -1 for none."""
    truth, twice = units.truth[j], units.twice[j]
    left = units.count[j] - (1 if drop >= 0 else 0)
    if left == 0:
        for w in range(len(out)):
            out[w] = valid[w] if add >= 0 else NONE
    elif drop >= 0:
        column, turn = columns[drop], opposite(units.literals[j, drop])
        for w in range(len(out)):
            out[w] = valid[w] & ~twice[w] & (truth[w] | ~(column[w] ^ turn))
    else:
        for w in range(len(out)):
            out[w] = truth[w]
    if add >= 0:
        column, turn = columns[add], opposite(level)
        for w in range(len(out)):
            out[w] &= column[w] ^ turn


@borrowing
def another_level(units: Units, j: int, counter: np.uint64) -> Any:
    """Draw another level of a literal of unit j: what is dropped, what is added and its level."""
    i = below(counter, units.literals.shape[1])
    coin = 1 if bits(counter + GOLDEN) & ONE else -1
    present = np.int64(units.literals[j, i])
    if present == 0:
        return np.int64(-1), i, coin
    return i, (i if coin == 1 else np.int64(-1)), -present


@borrowing
def swap(units: Units, j: int, counter: np.uint64) -> Any:
    """Draw a literal of unit j and another one in its place; a unit without literals gets one."""
    _, n = units.literals.shape
    i = below(counter, n)
    coin = 1 if bits(counter + GOLDEN) & ONE else -1
    if units.count[j] == 0:
        return np.int64(-1), i, coin
    drop = units.listed[j, below(counter + GOLDEN + GOLDEN, units.count[j])]
    if units.literals[j, i] != 0 and i != drop:
        return drop, np.int64(-1), coin
    return drop, i, coin


@borrowing
def from_sample(columns: Array, s: int, most: int, row: Array, counter: np.uint64) -> Any:
    """Write 1 to ``most`` random literals that hold for sample s; give how many."""
    row[:] = 0
    count = 1 + below(counter, most)
    left = count
    while left:
        counter += GOLDEN
        i = below(counter, len(row))
        if row[i] == 0:
            row[i] = 1 if (columns[i, s >> 6] >> np.uint64(s & 63)) & ONE else -1
            left -= 1
    return count


@borrowing
def grown(
    columns: Array, s: int, wanted: Array, unwanted: Array, l0: float, most: int, row: Array, order: Array,
    counter: np.uint64,
) -> int:  # fmt: skip
    """Write literals that hold for sample s, each the best of a random half, as long as they may pay; give how many.

    The best keeps most of what is wanted, and at the largest share; of all beginnings of the list the one is kept that
    covers most samples that are wanted, less those that are not and ``l0`` for each literal. The sets ``wanted`` and
    ``unwanted`` are reduced to those that all literals hold for; ``order`` is scratch.
    """
    row[:] = 0
    word, place = s >> 6, np.uint64(s & 63)
    best, kept, length = 0.0, 0, 0
    while length < most:
        choice, gain, wrong = -1, 0, 0
        top, of = -1.0, 1.0  # the best score is top / of: quotients are compared by products, which take less time
        for first in range(0, len(row), 64):
            counter += GOLDEN
            half = bits(counter)
            if len(row) - first < 64:
                half &= (ONE << np.uint64(len(row) - first)) - ONE
            while half:
                i = first + ones((half & (NONE - half)) - ONE)
                half &= half - ONE
                turn = NONE if (columns[i, word] >> place) & ONE else ALL
                right = other = 0
                for w in range(0, len(wanted), BLOCK):
                    column = words(columns.ctypes.data + 8 * (i * len(wanted) + w))
                    right += overlap(column, turn, words(wanted.ctypes.data + 8 * w))
                    other += overlap(column, turn, words(unwanted.ctypes.data + 8 * w))
                square, whole = np.float64(right) * right, np.float64(right + other)
                if square * of > top * whole and row[i] == 0:
                    top, of, choice, gain, wrong = square, whole, i, right, other
        if choice < 0:
            continue
        level = 1 if (columns[choice, word] >> place) & ONE else -1
        for w in range(len(wanted)):
            column = columns[choice, w] ^ opposite(level)
            wanted[w] &= column
            unwanted[w] &= column
        row[choice] = level
        order[length] = choice
        length += 1
        value = gain - wrong - l0 * length
        if value > best or length == 1:
            best, kept = value, length
        if wrong == 0 or gain - l0 * (length + 1) <= best:  # no longer list can be worth more
            break
    for k in range(kept, length):
        row[order[k]] = 0
    return kept


@borrowing
def conjunction(columns: Array, valid: Array, row: Array, out: Array) -> None:
    """Write for which samples all literals of a row hold; none if it has none."""
    any = False
    for w in range(len(out)):
        out[w] = valid[w]
    for i in range(len(row)):
        if row[i] != 0:
            any = True
            turn = opposite(row[i])
            for w in range(len(out)):
                out[w] &= columns[i, w] ^ turn
    if not any:
        out[:] = NONE


@borrowing
def draw(words: Array, count: int, counter: np.uint64) -> Any:
    """Draw one of the ``count`` samples of a set."""
    left = below(counter, count)
    w = 0
    while left >= ones(words[w]):
        left -= ones(words[w])
        w += 1
    word = words[w]
    for _ in range(left):
        word &= word - ONE
    return 64 * w + ones((word & (NONE - word)) - ONE)
