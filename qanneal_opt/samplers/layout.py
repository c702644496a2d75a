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

# A flip is cheaper with lists of neighbours from n = 256 on, and below a density that grows with n, as rows fall out of
# the caches: measured on random problems, 7% at n = 256, 11% at 1000, 17% at 2000, 21% at 4000.
_SMALLEST, _DENSITY, _GROWTH, _DENSEST = 256, 0.06, 5e-5, 0.2


@dataclass(frozen=True, eq=False)
class Layout:
    """One QUBO or a batch, each problem divided by a power of two that makes its largest entry at most 1.

    So no energy overflows in float32, and the numbers keep all the digits that it has. Final energies are
    computed from what was given, in float64.

    Args:
        linear: ``(B, width)`` float32, B = 1 for a single problem, padded with zeros.
        rows: of the M matrices, M = B, or 1 if all problems share it; symmetric, zero diagonal.
        unit: ``(B,)`` float64: what an energy of 1 here is in the Qubo.
        scale: ``(B,)`` float64: the median norm of the rows that are not zero, in ``unit``; 1 where all are.
        exact: float64, as given: the linear parts ``(B, n)``, and the rows.
    """

    linear: Array
    rows: Any
    unit: Array
    scale: Array
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
        return cls._of(*_measured(qubo)[:3])

    @classmethod
    def _of(cls, linear: Array, quadratic: Array, unit: Array) -> Dense:
        from qanneal_opt.samplers.kernels_layout import lay_out

        to_linear, scale = _room(linear)
        rows = aligned((*quadratic.shape[:2], to_linear.shape[1]))
        lay_out(linear, quadratic, unit, to_linear, rows, scale)
        return cls(to_linear, rows, unit, scale, (linear, quadratic))


class Sparse(Layout):
    """Rows are lists of neighbours: ``starts`` (M, n + 1) int64, ``places`` int32, ``values`` float32.

    The entries e of row i of matrix m, from ``starts[m, i]`` up to ``starts[m, i + 1]``, are ``values[e]`` in column
    ``places[e]``. Exact rows have the same starts and places.
    """

    @classmethod
    def _of(cls, linear: Array, quadratic: Array, unit: Array, count: int) -> Sparse:
        from qanneal_opt.samplers.kernels_layout import lay_out_sparse

        starts, places = np.empty((len(quadratic), quadratic.shape[1] + 1), np.int64), np.empty(count, np.int32)
        values, exact = np.empty(count, np.float32), np.empty(count)
        to_linear, scale = _room(linear)
        lay_out_sparse(linear, quadratic, unit, to_linear, starts, places, values, exact, scale)
        return cls(to_linear, (starts, places, values), unit, scale, (linear, (starts, places, exact)))


def laid_out(qubo: Qubo) -> Layout:
    """The layout in which flips are cheaper."""
    linear, quadratic, unit, count = _measured(qubo)
    if qubo.n < _SMALLEST or count > min(_DENSITY + _GROWTH * qubo.n, _DENSEST) * quadratic.size:
        return Dense._of(linear, quadratic, unit)
    return Sparse._of(linear, quadratic, unit, count)


def _measured(qubo: Qubo) -> tuple[Array, Array, Array, int]:
    """The parts (B, n) and (M, n, n) of ``qubo``, units (B,), and how many entries are not zero."""
    from qanneal_opt.samplers.kernels_layout import measure

    linear, quadratic = qubo.linear.cpu().numpy(), qubo.quadratic.cpu().numpy()
    linear = np.ascontiguousarray(linear if linear.ndim == 2 else linear[None])
    quadratic = np.ascontiguousarray(quadratic if quadratic.ndim == 3 else quadratic[None])
    unit = np.empty(len(linear))
    return linear, quadratic, unit, measure(linear, quadratic, unit)


def _room(linear: Array) -> tuple[Array, Array]:
    """Room for linear parts (B, width) and scales (B,)."""
    problems, n = linear.shape
    return aligned((problems, -(-n // LANES) * LANES)), np.empty(problems)


def aligned(shape: tuple[int, ...]) -> Array:
    """An empty float32 array that begins on a line of the cache."""
    size = math.prod(shape)
    space = np.empty(size + LANES, np.float32)
    start = -(space.__array_interface__["data"][0] // 4) % LANES
    return space[start : start + size].reshape(shape)
