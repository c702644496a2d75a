"""Compiled layout of QUBOs: one pass for the largest entry, one that scales, pads and sums squares."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.simd import entry

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]


@entry
def lay_out(
    linear: Doubles, quadratic: Doubles, to_linear: Floats, to_rows: Floats, unit: Doubles, scale: Doubles
) -> None:
    """Fill the parts of a `layout.Dense` from ``linear`` (B, n) and ``quadratic`` (M, n, n), M = B or 1.

    The unit of a problem is a power of two not below its largest entry, one for all that share a matrix.
    Its scale is the median norm of the rows that are not zero, 1 where all are.
    """
    problems, n = linear.shape
    matrices, width = len(quadratic), to_linear.shape[1]
    norms = np.empty(n)
    for m in range(min(matrices, problems)):
        most = 0.0
        for i in range(n):
            for j in range(n):
                most = max(most, abs(quadratic[m, i, j]))
        for p in range(m, problems, matrices):
            for i in range(n):
                most = max(most, abs(linear[p, i]))
        own = math.ldexp(1.0, min(max(math.frexp(most)[1], -1000), 1000))
        count = 0
        for i in range(n):
            squares = 0.0
            for j in range(n):
                scaled = quadratic[m, i, j] / own
                squares += scaled * scaled
                to_rows[m, i, j] = scaled
            for j in range(n, width):
                to_rows[m, i, j] = 0.0
            if squares > 0:
                norms[count] = math.sqrt(squares)
                count += 1
        middle = np.median(norms[:count]) if count else 1.0
        for p in range(m, problems, matrices):
            unit[p], scale[p] = own, middle
            for i in range(width):
                to_linear[p, i] = linear[p, i] / own if i < n else 0.0
