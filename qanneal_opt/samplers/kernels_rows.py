"""What compiled samplers do with a row of the quadratic part: all in which dense and sparse problems differ.

The rows are those of a `layout.Dense`, one array (M, n, width), or of a `layout.Sparse`, three of them in a tuple.
The compiler takes what fits the type.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import overload

from qanneal_opt.samplers.lanes import shift
from qanneal_opt.simd import FAST, at, floats, int32s, ints

INLINE: Any = {"forceinline": True, "error_model": "numpy", "fastmath": {"contract"}}
SUM: Any = {**INLINE, "fastmath": FAST}
Implementation = Any  # its arguments have no narrower types: numba compares the annotations of both functions


def add_row(field: Any, weight: Any, rows: Any, p: Any, i: Any) -> None:
    """Add weight * row i of problem p to the fields."""
    raise NotImplementedError("only in compiled code")


@overload(add_row, jit_options=INLINE)
def _add_row(field: Any, weight: Any, rows: Any, p: Any, i: Any) -> Implementation:
    def dense(field: Any, weight: Any, rows: Any, p: Any, i: Any) -> None:
        matrices, n, width = rows.shape
        shift(field, weight, at(floats(rows.ctypes.data), ((p if matrices > 1 else 0) * n + i) * width), width)

    def sparse(field: Any, weight: Any, rows: Any, p: Any, i: Any) -> None:
        starts, places, values = rows
        start = at(ints(starts.ctypes.data), (p if len(starts) > 1 else 0) * starts.shape[1] + i)
        place, value = at(int32s(places.ctypes.data), start[0]), at(floats(values.ctypes.data), start[0])
        for e in range(start[1] - start[0]):
            field[place[e]] += weight * value[e]

    return sparse if isinstance(rows, types.BaseTuple) else dense


def row_length(rows: Any) -> int:
    """How many numbers a row has, on the average."""
    raise NotImplementedError("only in compiled code")


@overload(row_length, jit_options=INLINE)
def _row_length(rows: Any) -> Implementation:
    def dense(rows: Any) -> Any:
        return rows.shape[2]

    def sparse(rows: Any) -> Any:
        return len(rows[2]) // rows[0].size

    return sparse if isinstance(rows, types.BaseTuple) else dense


def dot_row(rows: Any, p: Any, i: Any, b: Any) -> float:
    """The inner product of row i of problem p with an array b."""
    raise NotImplementedError("only in compiled code")


@overload(dot_row, jit_options=SUM)
def _dot_row(rows: Any, p: Any, i: Any, b: Any) -> Implementation:
    def dense(rows: Any, p: Any, i: Any, b: Any) -> Any:
        row, total = rows[p if len(rows) > 1 else 0, i], 0.0
        for j in range(len(b)):
            total += row[j] * b[j]
        return total

    def sparse(rows: Any, p: Any, i: Any, b: Any) -> Any:
        starts, places, values = rows
        m, total = p if len(starts) > 1 else 0, 0.0
        for e in range(starts[m, i], starts[m, i + 1]):
            total += values[e] * b[places[e]]
        return total

    return sparse if isinstance(rows, types.BaseTuple) else dense
