"""Compiled search on the grid: rows of codes, moved by one level at a time.

A row has the error e = v - w and the field f = H e. A step of s up or down in column c changes e'He by
s^2 H_cc - 2 s |f_c| at best, when it goes against the field, and adds +-s H_c, one contiguous row, to the field.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qanneal_opt.rng import GOLDEN, bits
from qanneal_opt.samplers.lanes import lowest, noise, shift
from qanneal_opt.samplers.layout import LANES
from qanneal_opt.simd import HALF, ONE, ZERO, Float, Row, at, entry, floats, scalar

Array = np.ndarray[Any, Any]

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_FLOATS: Any = types.CPointer(types.float32)
FAR = np.float32(1e30)


def _outside(context: Any, field: Any, low: Any, high: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        f, a, b = (builder.load(builder.bitcast(v, _VECTOR.as_pointer()), align=4) for v in values)
        either = builder.or_(builder.fcmp_ordered("<", f, a), builder.fcmp_ordered(">", f, b))
        return builder.zext(builder.bitcast(either, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(_FLOATS, _FLOATS, _FLOATS), lower


outside: Any = intrinsic(_outside)  # (field, low, high): mask of the lanes with field < low or field > high


@scalar
def bounds(low: Row, high: Row, code: Row, step: Row, diagonal: Row, top: Float, width: int, scratch: Row) -> None:
    """Write between which fields no move is made: ``scratch`` is by how much a move may raise the energy."""
    for c in range(width):
        bound = HALF * (step[c] * diagonal[c] - scratch[c] / step[c])
        low[c] = -bound if code[c] < top else -FAR
        high[c] = bound if code[c] > ZERO else FAR


@scalar
def sweep(field: Row, code: Row, step: Row, low: Row, high: Row, rows: Row, width: int) -> Any:
    """Visit all columns in order and move where the field is outside its bounds; give the number of moves."""
    moves = 0
    for o in range(0, width, LANES):
        f, a, b = at(field, o), at(low, o), at(high, o)
        mask = outside(f, a, b)
        while mask != 0:
            k = lowest(mask)
            up = ONE if f[k] < ZERO else -ONE
            code[o + k] += up
            shift(field, up * step[o + k], at(rows, (o + k) * width), width)
            moves += 1
            mask = outside(f, a, b) & (np.int64(-2) << k)
    return moves


@entry
def anneal(
    fields: Array, codes: Array, steps: Array, matrix: Array, diagonal: Array, top: int, temperatures: Array,
    limit: int, keys: Array, low: int, high: int,
) -> Any:  # fmt: skip
    """Anneal rows ``low`` to ``high``, then descend; return the number of moves.

    Args:
        fields: ``(R, width)`` float32, written.
        codes: ``(R, width)`` float32 whole numbers, written.
        steps: ``(R, width)`` float32: the distance of levels; padding 1.
        matrix: ``(width, width)`` float32: H; padding 0.
        diagonal: ``(width,)`` float32: of H; padding, and what must not be moved, huge.
        top: the highest code.
        temperatures: ``(R, S)`` float32.
        limit: sweeps of the descent.
        keys: ``(R,)`` uint64.
        low, high: rows.
    """
    width, sweeps = fields.shape[1], temperatures.shape[1]
    scratch = np.empty((3, width), np.float32)
    a = floats(scratch.ctypes.data)
    b, allowed = at(a, width), at(a, 2 * width)
    h, own = floats(matrix.ctypes.data), floats(diagonal.ctypes.data)
    highest, moves = np.float32(top), 0
    for t in range(sweeps):
        for r in range(low, high):
            field, code, step = (
                at(floats(fields.ctypes.data), r * width),
                at(floats(codes.ctypes.data), r * width),
                at(floats(steps.ctypes.data), r * width),
            )
            counter = bits(keys[r] + np.uint64(t + 1) * GOLDEN)
            noise(allowed, width, counter, temperatures[r, t], ZERO)
            bounds(a, b, code, step, own, highest, width, allowed)
            moves += sweep(field, code, step, a, b, h, width)
    for c in range(width):
        allowed[c] = np.float32(0)
    for r in range(low, high):
        field, code, step = (
            at(floats(fields.ctypes.data), r * width),
            at(floats(codes.ctypes.data), r * width),
            at(floats(steps.ctypes.data), r * width),
        )
        for _ in range(limit):
            bounds(a, b, code, step, own, highest, width, allowed)
            down = sweep(field, code, step, a, b, h, width)
            moves += down
            if down == 0:
                break
    return moves
