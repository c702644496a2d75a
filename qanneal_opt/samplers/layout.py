"""QUBOs as compiled samplers read them: float32, each row of the matrix contiguous and padded with zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qanneal_opt.qubo import Qubo

__all__ = ["LANES", "Dense", "aligned", "units"]

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

    >>> dense = Dense.of(Qubo([-3.0, 1.0], [[0.0, 8.0], [8.0, 0.0]]))
    >>> dense.rows.shape, dense.rows[0, 0, :3].tolist(), dense.unit.tolist()
    ((1, 2, 16), [0.0, 0.5, 0.0], [16.0])
    """

    linear: Array
    rows: Array
    unit: Array

    @classmethod
    def of(cls, qubo: Qubo) -> Dense:
        """The layout of ``qubo``, on the CPU; a copy."""
        linear, quadratic = qubo.linear.cpu().numpy(), qubo.quadratic.cpu().numpy()
        n = qubo.n
        linear = linear[None] if linear.ndim == 1 else linear
        quadratic = quadratic[None] if quadratic.ndim == 2 else quadratic
        unit = units(linear, quadratic)
        width = -(-n // LANES) * LANES
        padded, rows = aligned((len(linear), width)), aligned((len(quadratic), n, width))
        np.multiply(linear, 1 / unit[:, None], out=padded[:, :n], casting="same_kind")
        np.multiply(quadratic, 1 / unit[: len(rows), None, None], out=rows[..., :n], casting="same_kind")
        if width > n:
            padded[:, n:] = 0
            rows[..., n:] = 0
        return cls(padded, rows, unit)


def units(linear: Array, *quadratic: Array) -> Array:
    """For each problem a power of two not below its largest entry, ``(B,)``; one for all that share a matrix."""
    most = np.abs(linear).max(1, initial=0.0)  # (B,)
    for entries in quadratic:
        most = np.maximum(most, np.abs(entries).max((1, 2), initial=0.0))
    if quadratic and len(quadratic[0]) < len(linear):
        most[:] = most.max(initial=0.0)
    exponent = np.clip(np.frexp(most)[1], -1000, 1000)  # most <= 2^exponent
    return np.ldexp(1.0, exponent)  # type: ignore[no-any-return]


def aligned(shape: tuple[int, ...]) -> Array:
    """An empty float32 array that begins on a line of the cache."""
    size = int(np.prod(shape))
    space = np.empty(size + LANES, np.float32)
    start = -(space.ctypes.data // 4) % LANES
    return space[start : start + size].reshape(shape)
