"""QUBOs as compiled samplers read them: float32, each row of the matrix contiguous and padded with zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qanneal_opt.qubo import Qubo

__all__ = ["LANES", "Dense", "aligned"]

Array = np.ndarray[Any, Any]

LANES = 16
"""Rows have a multiple of this many numbers: 64 bytes, a line of the cache."""


@dataclass(frozen=True, eq=False)
class Dense:
    """One QUBO or a batch, each problem divided by a power of two that makes its largest entry at most 1.

    So no energy overflows in float32, and the numbers keep all the digits that it has. Final energies are
    computed from the Qubo itself, in float64.

    Args:
        linear: ``(B, width)`` float32, B = 1 for a single problem.
        rows: ``(M, n, width)`` float32, symmetric, zero diagonal; M = B, or 1 if all problems share it.
        unit: ``(B,)`` float64: what an energy of 1 here is in the Qubo.
        scale: ``(B,)`` float64: the median norm of the rows that are not zero, in ``unit``; 1 where all are.

    >>> dense = Dense.of(Qubo([-3.0, 1.0], [[0.0, 8.0], [8.0, 0.0]]))
    >>> dense.rows.shape, dense.rows[0, 0, :3].tolist(), dense.unit.tolist()
    ((1, 2, 16), [0.0, 0.5, 0.0], [16.0])
    """

    linear: Array
    rows: Array
    unit: Array
    scale: Array

    @classmethod
    def of(cls, qubo: Qubo) -> Dense:
        """The layout of ``qubo``, on the CPU; a copy."""
        from qanneal_opt.samplers.kernels_layout import lay_out

        linear, quadratic = qubo.linear.cpu().numpy(), qubo.quadratic.cpu().numpy()
        n = qubo.n
        linear = linear[None] if linear.ndim == 1 else linear
        quadratic = quadratic[None] if quadratic.ndim == 2 else quadratic
        linear, quadratic = np.ascontiguousarray(linear), np.ascontiguousarray(quadratic)
        width = -(-n // LANES) * LANES
        dense = cls(
            linear=aligned((len(linear), width)),
            rows=aligned((len(quadratic), n, width)),
            unit=np.empty(len(linear)),
            scale=np.empty(len(linear)),
        )
        lay_out(linear, quadratic, dense.linear, dense.rows, dense.unit, dense.scale)
        return dense


def aligned(shape: tuple[int, ...]) -> Array:
    """An empty float32 array that begins on a line of the cache."""
    size = math.prod(shape)
    space = np.empty(size + LANES, np.float32)
    start = -(space.__array_interface__["data"][0] // 4) % LANES
    return space[start : start + size].reshape(shape)
