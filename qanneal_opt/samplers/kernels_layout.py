"""Compiled layout of QUBOs: one pass for the largest entry, one that scales and sums."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.simd import compiled, entry

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@compiled
def measure(m: int, linear: Doubles, quadratic: Doubles, unit: Doubles) -> float:
    """Write and give the unit of the problems of matrix m: a power of two not below their largest entry."""
    problems, n = linear.shape
    matrices, most = len(quadratic), 0.0
    for i in range(n):
        for j in range(n):
            most = max(most, abs(quadratic[m, i, j]))
    for p in range(m, problems, matrices):
        for i in range(n):
            most = max(most, abs(linear[p, i]))
    own = math.ldexp(1.0, min(max(math.frexp(most)[1], -1000), 1000))
    for p in range(m, problems, matrices):
        unit[p] = own
    return own


@compiled
def finish(
    m: int, matrices: int, linear: Doubles, squares: Doubles, sums: Doubles,
    unit: Doubles, to_linear: Floats, scales: Doubles,
) -> None:  # fmt: skip
    """Write linear parts and scales of the problems of matrix m, from sums and sums of squares of its scaled rows."""
    problems, n = linear.shape
    rows = np.nonzero(squares)[0]
    norms = np.sqrt(squares[rows])
    ordered, count = np.sort(norms), len(rows)
    for p in range(m, problems, matrices):
        for i in range(to_linear.shape[1]):
            to_linear[p, i] = linear[p, i] / unit[p] if i < n else 0.0
        scales[p, 0], scales[p, 1], scales[p, 2] = 1.0, 1.0, 0.0
        if count:
            fields = np.abs(2 * linear[p][rows] / unit[p] + sums[rows]) / norms
            scales[p, 0], scales[p, 1], scales[p, 2] = ordered[count // 2], ordered[count // 10], np.median(fields)


@entry
def lay_out(
    linear: Doubles, quadratic: Doubles, to_linear: Floats, to_rows: Floats, unit: Doubles, scales: Doubles
) -> None:
    """Fill the parts of a `layout.Dense`."""
    problems, n = linear.shape
    matrices, width = len(quadratic), to_linear.shape[1]
    squares, sums = np.empty(n), np.empty(n)
    for m in range(min(matrices, problems)):
        own = measure(m, linear, quadratic, unit)
        for i in range(n):
            total = summed = 0.0
            for j in range(n):
                scaled = quadratic[m, i, j] / own
                total += scaled * scaled
                summed += scaled
                to_rows[m, i, j] = scaled
            for j in range(n, width):
                to_rows[m, i, j] = 0.0
            squares[i], sums[i] = total, summed
        finish(m, matrices, linear, squares, sums, unit, to_linear, scales)


@entry
def lay_out_sparse(
    linear: Doubles, quadratic: Doubles, to_linear: Floats, starts: Ints, places: NDArray[np.int32],
    values: Floats, exact: Doubles, unit: Doubles, scales: Doubles,
) -> None:  # fmt: skip
    """Fill the parts of a `layout.Sparse`."""
    problems, n = linear.shape
    matrices, e = len(quadratic), 0
    squares, sums = np.empty(n), np.empty(n)
    for m in range(min(matrices, problems)):
        own = measure(m, linear, quadratic, unit)
        for i in range(n):
            starts[m, i], total, summed = e, 0.0, 0.0
            for j in range(n):
                if quadratic[m, i, j] != 0:
                    scaled = quadratic[m, i, j] / own
                    total += scaled * scaled
                    summed += scaled
                    places[e], values[e], exact[e] = j, scaled, quadratic[m, i, j]
                    e += 1
            squares[i], sums[i] = total, summed
        starts[m, n] = e
        finish(m, matrices, linear, squares, sums, unit, to_linear, scales)
