"""Compiled GPTQ by lazy blocks: an error is spread over the rest of its block at once, over later columns with others.

One column at a time the errors of a row stream all of the triangular factor through it. Here a tile of the factor, a
block of its rows by as many columns, stays in the first cache while it serves all rows of a piece. The additions to
a target are the same in the same order, so every bit is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.simd import Row, at, doubles, entry, scalar

Array = np.ndarray[Any, Any]

BLOCK = 32  # columns


@scalar
def nearest(center: float, top: int) -> int:
    """Give the code, 0 to top, that is nearest to ``center``."""
    return round(min(max(center, 0.0), float(top)))


@scalar
def pass_on(own: Row, error: float, row: Row, count: int) -> None:
    """Subtract error * row."""
    for j in range(count):
        own[j] -= error * row[j]


@scalar
def pass_on_eight(own: Row, error: Row, rows: Row) -> None:
    """Subtract eight errors times the rows of a tile, the first one first."""
    a, b, c, d = rows, at(rows, BLOCK), at(rows, 2 * BLOCK), at(rows, 3 * BLOCK)
    e, f, g, h = at(rows, 4 * BLOCK), at(rows, 5 * BLOCK), at(rows, 6 * BLOCK), at(rows, 7 * BLOCK)
    s, t, u, v, w, x, y, z = error[0], error[1], error[2], error[3], error[4], error[5], error[6], error[7]
    for j in range(BLOCK):
        half = own[j] - s * a[j] - t * b[j] - u * c[j] - v * d[j]
        own[j] = half - w * e[j] - x * f[j] - y * g[j] - z * h[j]


@scalar
def cut(tile: Array, spread: Array, row: int, column: int) -> None:
    """Write the tile of ``spread`` from there on; behind its end is what was there, which reaches no column."""
    for i in range(min(BLOCK, len(spread) - row)):
        for j in range(min(BLOCK, len(spread) - column)):
            tile[i, j] = spread[row + i, column + j]


@entry
def search(
    weight: Array, scale: Array, zero: Array, group: Array, order: Array, spread: Array, price: Array, top: int,
    low: int, high: int, target: Array, error: Array, tile: Array, codes: Array, cost: Array,
) -> None:  # fmt: skip
    """Round rows ``low`` to ``high`` of ``weight``; write their codes and what these cost.

    Args:
        weight: ``(R, C)``.
        scale: ``(R, G)``, of each group.
        zero: ``(R, G)``, of each group.
        group: ``(C,)``: of each column.
        order: ``(C,)``: the columns, first to last.
        spread: ``(C, C)``, of the `factor.Factor`, contiguous.
        price: ``(C,)``, of the `factor.Factor`.
        top: the highest code.
        low: the first row.
        high: behind the last.
        target: ``(high - low, C)``, C rounded up to whole blocks, zeros, to work in: what there is left to round.
        error: ``(high - low, BLOCK)``, to work in: those of a block.
        tile: ``(BLOCK, BLOCK)``, zeros, to work in.
        codes: ``(R, C)`` uint8, written.
        cost: ``(R,)``, written: (v - w)' (H + lambda) (v - w).
    """
    rows, n, width = high - low, len(order), target.shape[1]
    targets, errors, tiles = doubles(target.ctypes.data), doubles(error.ctypes.data), doubles(tile.ctypes.data)
    for r in range(rows):
        cost[low + r] = 0.0
        for i in range(n):
            target[r, i] = weight[low + r, order[i]]
    for first in range(0, n, BLOCK):
        cut(tile, spread, first, first)
        for i in range(min(BLOCK, n - first)):
            c, unit = order[first + i], price[first + i]
            for r in range(rows):
                own = at(targets, r * width + first)
                s, z = scale[low + r, group[c]], zero[low + r, group[c]]
                code = nearest(own[i] / s + z, top)
                e = own[i] - (code - z) * s
                pass_on(own, e, at(tiles, i * BLOCK), BLOCK)  # rows of the factor are 0 before its diagonal
                codes[low + r, c] = code
                cost[low + r] += unit * e * e
                error[r, i] = e
        for column in range(first + BLOCK, n, BLOCK):
            cut(tile, spread, first, column)
            for r in range(rows):
                for i in range(0, BLOCK, 8):
                    pass_on_eight(at(targets, r * width + column), at(errors, r * BLOCK + i), at(tiles, i * BLOCK))
