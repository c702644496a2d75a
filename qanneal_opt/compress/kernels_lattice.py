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
from qanneal_opt.simd import HALF, ONE, ZERO, Float, Row, add, at, entry, fill, floats, scalar, scaled, shorts

Array = np.ndarray[Any, Any]

_POINTER: Any = types.CPointer
_FLOATS = _POINTER(types.float32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
FAR = np.float32(1e30)
DESCENT = 200  # sweeps at most: rounding might turn in circles


def _outside(context: Any, field: Any, low: Any, high: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        f, a, b = (builder.load(builder.bitcast(v, _VECTOR.as_pointer()), align=4) for v in values)
        either = builder.or_(builder.fcmp_ordered("<", f, a), builder.fcmp_ordered(">", f, b))
        return builder.zext(builder.bitcast(either, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(_FLOATS, _FLOATS, _FLOATS), lower


outside: Any = intrinsic(_outside)  # (field, low, high): mask of the lanes with field < low or field > high


@scalar
def bounds(low: Row, high: Row, code: Row, step: Row, diagonal: Row, top: Float, width: int) -> None:
    """Write the fields between which no move is made; ``low`` holds by how much a move may raise the error."""
    for c in range(width):
        bound = HALF * (step[c] * diagonal[c] - low[c] / step[c])
        low[c] = -bound if code[c] < top else -FAR
        high[c] = bound if code[c] > ZERO else FAR


@scalar
def visit(field: Row, code: Row, step: Row, low: Row, high: Row, rows: Row, o: int, width: int) -> Any:
    """Go through the columns o to o + 15 of a row, move where the field is outside its bounds; count the moves."""
    moves = 0
    f, a, b = at(field, o), at(low, o), at(high, o)
    mask = outside(f, a, b)
    while mask != 0:
        k = lowest(mask)
        # Downhill where both ways are allowed; an end of the grid allows one, which may be uphill.
        up = ONE if f[k] < a[k] and (f[k] < ZERO or f[k] <= b[k]) else -ONE
        code[o + k] += up
        shift(field, up * step[o + k], at(rows, (o + k) * width), width)
        moves += 1
        mask = outside(f, a, b) & (np.int64(-2) << k)  # those after k, whose fields it has changed
    return moves


@entry
def anneal(
    fields: Array, pulls: Array, codes: Array, steps: Array, matrix: Array, diagonal: Array, coupling: Array,
    top: int, temperatures: Array, fall: Array, passed: int, keys: Array, low: int, high: int,
    scratch: Array,
) -> Any:  # fmt: skip
    """Take rows ``low`` to ``high`` through the temperatures ``fall``, or down if there are none; count the moves.

    One row after the other; what a row has changed is added to the fields of those after it.

    Args:
        fields: ``(R, width)`` float32: half the gradient by each row in units of G_rr, written.
        pulls: ``(R, width)`` float32: H e of each row; what a row has changed is added.
        codes: ``(R, width)`` float32 whole numbers, written.
        steps: ``(R, width)`` float32: the distance of levels; padding 1.
        matrix: ``(width, width)`` bfloat16, as uint16: H; padding 0. Half as many bytes as float32, which come from
            far where H is wide. A step and its return cancel, so that fields are off by what codes have changed alone.
        diagonal: ``(width,)`` float32: of H; padding, and what must not be moved, huge.
        coupling: ``(R, R)`` float32: G_rk / G_rr; ``(0, 0)`` for rows that do not feel each other.
        top: the highest code.
        temperatures: ``(R,)`` float32: the unit of each row's.
        fall: ``(S,)`` float32: temperatures in that unit, one a sweep.
        passed: sweeps before these; random numbers depend on it.
        keys: ``(R,)`` uint64.
        low: the first row.
        high: behind the last.
        scratch: ``(3, width)`` float32, to work in.
    """
    width, sweeps, moves = fields.shape[1], len(fall), 0
    a, h, own = floats(scratch.ctypes.data), shorts(matrix.ctypes.data), floats(diagonal.ctypes.data)
    b, change = at(a, width), at(a, 2 * width)
    for r in range(low, high):
        field, code = at(floats(fields.ctypes.data), r * width), at(floats(codes.ctypes.data), r * width)
        step, pull = at(floats(steps.ctypes.data), r * width), at(floats(pulls.ctypes.data), r * width)
        scaled(change, -ONE, field, width)
        for t in range(sweeps if sweeps > 0 else DESCENT):
            if sweeps > 0:
                counter = bits(keys[r] + np.uint64(passed + t + 1) * GOLDEN)
                noise(a, width, counter, temperatures[r] * fall[t], ZERO)
            else:
                fill(a, ZERO, width)
            bounds(a, b, code, step, own, np.float32(top), width)
            before = moves
            for o in range(0, width, LANES):
                moves += visit(field, code, step, a, b, h, o, width)
            if sweeps == 0 and moves == before:
                break
        add(change, ONE, field, width)
        add(pull, ONE, change, width)
        for k in range(r + 1, high if coupling.size > 0 else 0):
            add(at(floats(fields.ctypes.data), k * width), coupling[k, r], change, width)
    return moves
