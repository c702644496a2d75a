"""Compiled K-best search down a triangular factor: the K cheapest prefixes of a row's codes, column by column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qanneal_opt.compress.kernels_gptq import nearest, pass_on
from qanneal_opt.simd import Row, at, doubles, entry, scalar

Array = np.ndarray[Any, Any]


@scalar
def nth_nearest(center: float, rank: int, top: int) -> int:
    """Give the code, 0 to top, that is nearest to ``center`` but for ``rank`` others."""
    code = nearest(center, top)
    below, above = code, code + 1  # those not yet passed: downwards and upwards
    for _ in range(rank + 1):
        if below >= 0 and (above > top or center - below <= above - center):
            code = below
            below -= 1
        else:
            code = above
            above += 1
    return code


@scalar
def branch(
    center: Array, cost: Array, unit: float, top: int, alive: int,
    parent: Array, level: Array, total: Array, passed: Array, following: Array,
) -> Any:  # fmt: skip
    """Write the cheapest continuations of ``alive`` prefixes, cheapest first, at most as many as there is room for."""
    for k in range(alive):
        passed[k] = 0
        following[k] = cost[k] + unit * (center[k] - nth_nearest(center[k], 0, top)) ** 2
    count = 0
    while count < parent.size:
        k = 0
        for other in range(1, alive):
            if following[other] < following[k]:
                k = other
        if not following[k] < math.inf:
            break
        parent[count], level[count], total[count] = k, nth_nearest(center[k], passed[k], top), following[k]
        passed[k] += 1
        following[k] = math.inf
        if passed[k] <= top:
            following[k] = cost[k] + unit * (center[k] - nth_nearest(center[k], passed[k], top)) ** 2
        count += 1
    return count


@scalar
def settle(slot: Array, parent: Array, alive: int, grown: int, last: Array, free: Array, chosen: Array) -> None:
    """Choose where the targets of each child stand: the last of a prefix takes its slot, the others free ones."""
    for k in range(alive):
        last[k] = -1
    for c in range(grown):
        last[parent[c]] = c
    for f in range(free.size):
        free[f] = 1
    for k in range(alive):
        if last[k] >= 0:
            free[slot[k]] = 0
    f = 0
    for c in range(grown):
        if last[parent[c]] == c:
            chosen[c] = slot[parent[c]]
        else:
            while free[f] == 0:
                f += 1
            chosen[c] = f
            f += 1


@scalar
def passed_on(new: Row, old: Row, error: float, row: Row, count: int) -> None:
    """Write old - error * row, for rows that do not overlap."""
    for j in range(count):
        new[j] = old[j] - error * row[j]


@entry
def search(
    weight: Array, scale: Array, zero: Array, spread: Array, price: Array, top: int, width: int,
    low: int, high: int, target: Array, codes: Array,
) -> None:  # fmt: skip
    """Round rows ``low`` to ``high`` of ``weight``; write their cheapest codes.

    All rows go through a column before any goes on, so that its row of ``spread`` is read once.

    Args:
        weight: ``(R, C)``, in the order of rounding.
        scale: ``(R, C)``, of each weight.
        zero: ``(R, C)``, of each weight.
        spread: ``(C, C)``, of the `gptq.Factor`.
        price: ``(C,)``, of the `gptq.Factor`.
        top: the highest code.
        width: how many prefixes are kept.
        low: the first row.
        high: behind the last.
        target: ``(high - low, 2 width, C)``, to work in: what each prefix has left to round.
        codes: ``(R, C)`` uint8, in the order of rounding, written.
    """
    rows, n = high - low, weight.shape[1]
    parents, levels = np.empty((rows, n, width), np.int16), np.empty((rows, n, width), np.uint8)
    slot, cost, alive = np.zeros((rows, width), np.int64), np.zeros((rows, width)), np.ones(rows, np.int64)
    center, total, following = np.empty(width), np.empty(width), np.empty(width)
    parent, level, passed = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.int64)
    last, chosen, free = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(2 * width, np.int64)
    targets, factors = doubles(target.ctypes.data), doubles(spread.ctypes.data)
    for r in range(rows):
        target[r, 0] = weight[low + r]
    for i in range(n):
        row = at(factors, i * n + i + 1)
        for r in range(rows):
            own = at(targets, 2 * r * width * n)
            s, z = scale[low + r, i], zero[low + r, i]
            for k in range(alive[r]):
                center[k] = own[slot[r, k] * n + i] / s + z
            grown = branch(center, cost[r], price[i] * s * s, top, alive[r], parent, level, total, passed, following)
            settle(slot[r], parent, alive[r], grown, last, free, chosen)
            for c in range(grown):
                old, new = at(own, slot[r, parent[c]] * n + i), at(own, chosen[c] * n + i)
                error = old[0] - (level[c] - z) * s
                if chosen[c] == slot[r, parent[c]]:
                    pass_on(at(old, 1), error, row, n - i - 1)
                else:
                    passed_on(at(new, 1), at(old, 1), error, row, n - i - 1)
                parents[r, i, c], levels[r, i, c] = parent[c], level[c]
            for c in range(grown):
                slot[r, c], cost[r, c] = chosen[c], total[c]
            alive[r] = grown
    for r in range(rows):
        k = 0
        for i in range(n - 1, -1, -1):
            codes[low + r, i] = levels[r, i, k]
            k = parents[r, i, k]
