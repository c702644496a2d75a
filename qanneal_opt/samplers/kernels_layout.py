"""Compiled layout of QUBOs: one pass that measures, and one that scales and sums squares."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.simd import compiled, entry

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@entry
def measure(linear: Doubles, quadratic: Doubles, unit: Doubles) -> int:
    """Write the unit of each problem: a power of two not below its largest entry, one for all that share a matrix.

    Args:
        linear: ``(B, n)``.
        quadratic: ``(M, n, n)``, M = B or 1.
        unit: ``(B,)``, written.

    Returns:
        How many entries of the matrices are not zero.
    """
    problems, n = linear.shape
    matrices, count = len(quadratic), 0
    for m in range(min(matrices, problems)):
        most = 0.0
        for i in range(n):
            for j in range(n):
                most = max(most, abs(quadratic[m, i, j]))
                count += quadratic[m, i, j] != 0
        for p in range(m, problems, matrices):
            for i in range(n):
                most = max(most, abs(linear[p, i]))
        for p in range(m, problems, matrices):
            unit[p] = math.ldexp(1.0, min(max(math.frexp(most)[1], -1000), 1000))
    return count


@compiled
def finish(
    m: int, linear: Doubles, squares: Doubles, to_linear: Floats, unit: Doubles, scale: Doubles, matrices: int
) -> None:
    """Write linear parts and scales of the problems of matrix m, from the sums of squares of its rows."""
    problems, n = linear.shape
    norms = np.sqrt(squares[squares > 0])
    middle = np.median(norms) if len(norms) else 1.0
    for p in range(m, problems, matrices):
        scale[p] = middle
        for i in range(to_linear.shape[1]):
            to_linear[p, i] = linear[p, i] / unit[p] if i < n else 0.0


@entry
def lay_out(
    linear: Doubles, quadratic: Doubles, unit: Doubles, to_linear: Floats, to_rows: Floats, scale: Doubles
) -> None:
    """Fill the parts of a `layout.Dense`. The scale of a problem is the median norm of the rows that are not zero."""
    problems, n = linear.shape
    matrices, width = len(quadratic), to_linear.shape[1]
    squares = np.empty(n)
    for m in range(min(matrices, problems)):
        for i in range(n):
            total = 0.0
            for j in range(n):
                scaled = quadratic[m, i, j] / unit[m]
                total += scaled * scaled
                to_rows[m, i, j] = scaled
            for j in range(n, width):
                to_rows[m, i, j] = 0.0
            squares[i] = total
        finish(m, linear, squares, to_linear, unit, scale, matrices)


@entry
def lay_out_sparse(
    linear: Doubles, quadratic: Doubles, unit: Doubles, to_linear: Floats, starts: Ints, places: NDArray[np.int32],
    values: Floats, exact: Doubles, scale: Doubles,
) -> None:  # fmt: skip
    """Fill the parts of a `layout.Sparse`, as `lay_out`."""
    problems, n = linear.shape
    matrices, e = len(quadratic), 0
    squares = np.empty(n)
    for m in range(min(matrices, problems)):
        for i in range(n):
            starts[m, i], total = e, 0.0
            for j in range(n):
                if quadratic[m, i, j] != 0:
                    scaled = quadratic[m, i, j] / unit[m]
                    total += scaled * scaled
                    places[e], values[e], exact[e] = j, scaled, quadratic[m, i, j]
                    e += 1
            squares[i] = total
        starts[m, n] = e
        finish(m, linear, squares, to_linear, unit, scale, matrices)
