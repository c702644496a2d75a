"""QUBOs as compiled samplers read them: float32, divided by a unit, each row of the matrix contiguous."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qanneal_opt.qubo import Qubo

__all__ = ["LANES", "Dense", "Layout", "Sparse", "aligned", "laid_out"]

Array = np.ndarray[Any, Any]

LANES = 16
"""Rows have a multiple of this many numbers: 64 bytes, a line of the cache."""

# A flip costs a whole row, or a jump for each neighbour: lists of neighbours are cheaper in large problems, below a
# density that grows with n, as rows fall out of the caches.
_SMALLEST, _DENSITY, _GROWTH, _DENSEST = 256, 0.06, 5e-5, 0.2


@dataclass(frozen=True, eq=False)
class Layout:
    r"""One QUBO or a batch, each problem divided by a power of two that makes its largest entry at most 1.

    So no energy overflows in float32, and the numbers keep all the digits that it has. Final energies are
    computed from what was given, in float64.

    Args:
        linear: ``(B, width)`` float32, B = 1 for a single problem, padded with zeros.
        rows: of the M matrices, M = B, or 1 if all problems share it; symmetric, zero diagonal.
        unit: ``(B,)`` float64: what an energy of 1 here is in the Qubo.
        scales: ``(B, 3)`` float64, of the rows that are not zero: the median of their norms and the lowest tenth, in
            ``unit``, and the median of :math:`|2 l_i + \sum_j Q_{ij}| / \sqrt{\sum_j Q_{ij}^2}`: as spins see it, how
            strong fields are next to couplings. 1, 1, 0 where all rows are zero.
        exact: float64, as given: the linear parts ``(B, n)``, and the rows.
    """

    linear: Array
    rows: Any
    unit: Array
    scales: Array
    exact: tuple[Array, Any]


class Dense(Layout):
    """Rows are an array ``(M, n, width)`` float32, padded with zeros; exact ones ``(M, n, n)``.

    >>> dense = Dense.of(Qubo([-3.0, 1.0], [[0.0, 8.0], [8.0, 0.0]]))
    >>> dense.rows.shape, dense.rows[0, 0, :3].tolist(), dense.unit.tolist()
    ((1, 2, 16), [0.0, 0.5, 0.0], [16.0])
    """

    @classmethod
    def of(cls, qubo: Qubo) -> Dense:
        """The layout of ``qubo``, on the CPU."""
        return cls._of(*_parts(qubo))

    @classmethod
    def _of(cls, linear: Array, quadratic: Array) -> Dense:
        from qanneal_opt.samplers.kernels_layout import lay_out

        to_linear, unit, scales = _room(linear)
        rows = aligned((*quadratic.shape[:2], to_linear.shape[1]))
        lay_out(linear, quadratic, to_linear, rows, unit, scales)
        return cls(to_linear, rows, unit, scales, (linear, quadratic))


class Sparse(Layout):
    """Rows are lists of neighbours: ``starts`` (M, n + 1) int64, ``places`` int32, ``values`` float32.

    The entries e of row i of matrix m, from ``starts[m, i]`` up to ``starts[m, i + 1]``, are ``values[e]`` in column
    ``places[e]``. Exact rows have the same starts and places.
    """

    @classmethod
    def _of(cls, linear: Array, quadratic: Array, count: int) -> Sparse:
        from qanneal_opt.samplers.kernels_layout import lay_out_sparse

        starts, places = np.empty((len(quadratic), quadratic.shape[1] + 1), np.int64), np.empty(count, np.int32)
        values, exact = np.empty(count, np.float32), np.empty(count)
        to_linear, unit, scales = _room(linear)
        lay_out_sparse(linear, quadratic, to_linear, starts, places, values, exact, unit, scales)
        return cls(to_linear, (starts, places, values), unit, scales, (linear, (starts, places, exact)))


def laid_out(qubo: Qubo) -> Layout:
    """The layout in which flips are cheaper."""
    linear, quadratic = _parts(qubo)
    if qubo.n >= _SMALLEST:
        count = int(np.count_nonzero(quadratic))
        if count <= min(_DENSITY + _GROWTH * qubo.n, _DENSEST) * quadratic.size:
            return Sparse._of(linear, quadratic, count)
    return Dense._of(linear, quadratic)


def _parts(qubo: Qubo) -> tuple[Array, Array]:
    """Linear parts (B, n) and matrices (M, n, n), on the CPU."""
    linear, quadratic = qubo.linear.cpu().numpy(), qubo.quadratic.cpu().numpy()
    linear = linear if linear.ndim == 2 else linear[None]
    quadratic = quadratic if quadratic.ndim == 3 else quadratic[None]
    return np.ascontiguousarray(linear), np.ascontiguousarray(quadratic)


def _room(linear: Array) -> tuple[Array, Array, Array]:
    """Room for linear parts (B, width), units (B,) and scales (B, 3)."""
    problems, n = linear.shape
    return aligned((problems, -(-n // LANES) * LANES)), np.empty(problems), np.empty((problems, 3))


def aligned(shape: tuple[int, ...]) -> Array:
    """An empty float32 array that begins on a line of the cache."""
    size = math.prod(shape)
    space = np.empty(size + LANES, np.float32)
    start = -(space.__array_interface__["data"][0] // 4) % LANES
    return space[start : start + size].reshape(shape)
