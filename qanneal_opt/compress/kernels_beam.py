"""Compiled K-best search down a triangular factor: the K cheapest prefixes of a row's codes, column by column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qanneal_opt.simd import compiled, entry

Array = np.ndarray[Any, Any]


@compiled
def nth_nearest(center: float, rank: int, top: int) -> int:
    """The code, 0 to top, that is nearest to ``center`` but for ``rank`` others."""
    first = int(min(max(round(center), 0.0), float(top)))
    below, above = first, first + 1  # candidates not yet taken: downwards and upwards
    code = first
    for _ in range(rank + 1):
        if below >= 0 and (above > top or abs(below - center) <= abs(above - center)):
            code = below
            below -= 1
        else:
            code = above
            above += 1
    return code


@compiled
def branch(
    center: Array,
    cost: Array,
    unit: float,
    top: int,
    alive: int,
    width: int,
    parent: Array,
    level: Array,
    total: Array,
    used: Array,
) -> int:
    """Write the ``width`` cheapest continuations of ``alive`` prefixes, cheapest first; return how many."""
    for k in range(alive):
        used[k] = 0
    count = 0
    while count < width:
        best, which, code = math.inf, -1, 0
        for k in range(alive):
            if used[k] <= top:
                candidate = nth_nearest(center[k], used[k], top)
                price = cost[k] + unit * (center[k] - candidate) ** 2
                if price < best:
                    best, which, code = price, k, candidate
        if which < 0:
            break
        parent[count], level[count], total[count] = which, code, best
        used[which] += 1
        count += 1
    return count


@entry
def search(
    weight: Array, scale: Array, zero: Array, spread: Array, price: Array, top: int, width: int,
    low: int, high: int, codes: Array,
) -> None:  # fmt: skip
    """Round rows ``low`` to ``high`` of ``weight``; write their cheapest codes.

    Args:
        weight, scale, zero: ``(R, C)``, in the order of rounding.
        spread, price: of the `gptq.Factor`.
        top: the highest code.
        width: how many prefixes are kept.
        low, high: rows.
        codes: ``(R, C)`` uint8, in the order of rounding.
    """
    n = weight.shape[1]
    target = np.empty((2 * width, n), weight.dtype)
    slot, free = np.empty(width, np.int64), np.empty(2 * width, np.int64)
    chosen = np.empty(width, np.int64)
    parents, levels = np.empty((n, width), np.int16), np.empty((n, width), np.uint8)
    center, cost, total = np.empty(width), np.empty(width), np.empty(width)
    parent, level, used = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.int64)
    last = np.empty(width, np.int64)
    for r in range(low, high):
        alive, slot[0], cost[0] = 1, 0, 0.0
        for j in range(n):
            target[0, j] = weight[r, j]
        for i in range(n):
            s, z = scale[r, i], zero[r, i]
            for k in range(alive):
                center[k] = target[slot[k], i] / s + z
            grown = branch(center, cost, price[i] * s * s, top, alive, width, parent, level, total, used)
            # The last child of a prefix takes its place, the others copy it.
            for k in range(alive):
                last[k] = -1
            for c in range(grown):
                last[parent[c]] = c
            spare = 0
            for f in range(2 * width):
                taken = False
                for k in range(alive):
                    taken |= slot[k] == f and last[k] >= 0
                if not taken:
                    free[spare] = f
                    spare += 1
            spare = 0
            for c in range(grown):
                k = parent[c]
                source = slot[k]
                if last[k] == c:
                    chosen[c] = source
                else:
                    chosen[c] = free[spare]
                    spare += 1
                error = target[source, i] - (level[c] - z) * s
                old, new, row = target[source], target[chosen[c]], spread[i]
                for j in range(i + 1, n):
                    new[j] = old[j] - error * row[j]
                parents[i, c], levels[i, c] = k, level[c]
            for c in range(grown):
                slot[c], cost[c] = chosen[c], total[c]
            alive = grown
        k = 0
        for i in range(n - 1, -1, -1):
            codes[r, i] = levels[i, k]
            k = parents[i, k]
