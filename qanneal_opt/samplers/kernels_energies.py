"""Compiled energies in float64, from the numbers that were given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.samplers.kernels_rows import dot_row
from qanneal_opt.simd import entry


@entry
def energies(
    linear: NDArray[np.float64],
    rows: Any,
    states: NDArray[np.uint8],
    low: int,
    high: int,
    out: NDArray[np.float64],
) -> None:
    """Write l.b + b'Qb / 2 of states ``low`` to ``high``: number c is state c // B of problem c % B.

    Args:
        linear: ``(B, n)``.
        rows: float64, dense or sparse.
        states: ``(B, C, n)``.
        low: the first.
        high: behind the last.
        out: ``(B, C)``, written.
    """
    problems, n = linear.shape
    b = np.empty(n)
    for c in range(low, high):
        p, r = c % problems, c // problems
        for i in range(n):
            b[i] = states[p, r, i]
        total = 0.0
        for i in range(n):
            if states[p, r, i]:
                total += linear[p, i] + 0.5 * dot_row(rows, p, i, b)
        out[p, r] = total
