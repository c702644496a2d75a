"""Sixteen neighbours of a row at a time, and noise for all of them: what compiled sweeps over variables are made of.

A sweep visits the variables in order. Most proposals are refused, so it asks for sixteen at once which would be
accepted, and looks at single ones only where the answer is any. The compiler makes of one such vector what the
machine has: one register of AVX-512, two of AVX2, four of SSE or NEON.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qanneal_opt.rng import GOLDEN, bits
from qanneal_opt.samplers.layout import LANES
from qanneal_opt.simd import HALF, ONE, Float, Row, at, log, scalar

_POINTER: Any = types.CPointer
_FLOATS = _POINTER(types.float32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_CONTRACT = ("contract",)


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _load_bfloat16(builder: Any, pointer: Any) -> Any:
    """Their bits are the upper halves of those of float32."""
    halves = ir.VectorType(ir.IntType(16), LANES)
    bits = builder.load(builder.bitcast(pointer, halves.as_pointer()), align=2)
    wide = ir.VectorType(ir.IntType(32), LANES)
    return builder.bitcast(builder.shl(builder.zext(bits, wide), ir.Constant(wide, [16] * LANES)), _VECTOR)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _spread(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _below(context: Any, step: Any, field: Any, cost: Any, limit: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        s, f, c, bound = (_load(builder, pointer) for pointer in values)
        change = builder.fadd(builder.fmul(s, f, flags=_CONTRACT), c, flags=_CONTRACT)
        mask = builder.bitcast(builder.fcmp_ordered("<", change, bound), ir.IntType(LANES))
        return builder.zext(mask, ir.IntType(64))

    return types.int64(_FLOATS, _FLOATS, _FLOATS, _FLOATS), lower


def _scale(context: Any, row: Any, mask: Any, factor: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer, mask, factor = values
        old = _load(builder, pointer)
        chosen = builder.bitcast(builder.trunc(mask, ir.IntType(LANES)), _MASK)
        _store(builder, builder.select(chosen, builder.fmul(old, _spread(builder, factor)), old), pointer)
        return context.get_dummy_value()

    return types.void(_FLOATS, types.int64, types.float32), lower


def _add(context: Any, out: Any, weight: Any, row: Any) -> Any:
    load = _load if row.dtype == types.float32 else _load_bfloat16

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        out, weight, row = values
        product = builder.fmul(_spread(builder, weight), load(builder, row), flags=_CONTRACT)
        _store(builder, builder.fadd(_load(builder, out), product, flags=_CONTRACT), out)
        return context.get_dummy_value()

    return types.void(_FLOATS, types.float32, row), lower


def _lowest(context: Any, mask: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), lower


below: Any = intrinsic(_below)  # (step, field, cost, limit): mask of step * field + cost < limit
scale: Any = intrinsic(_scale)  # (row, mask, factor): multiply the lanes in the mask
add: Any = intrinsic(_add)  # (out, weight, row): out += weight * row, of float32 or bfloat16
lowest: Any = intrinsic(_lowest)  # (mask): its lowest lane; the mask is not 0

HIGH, LOW, BITS = np.uint64(41), np.uint64(18), np.uint64(2**23 - 1)
UNIT = np.float32(2.0**-23)


@scalar
def threshold(word: Any, barker: Float) -> Any:
    """Give -log u (``barker`` 0), or log((1 - u) / u) (``barker`` 1), of u in (0, 1) made of 23 random bits."""
    u = (np.float32(np.int32(word)) + HALF) * UNIT
    return log((ONE - barker * u) / u)


@scalar
def noise(out: Row, width: int, counter: np.uint64, temperature: Float, barker: Float) -> None:
    """Write what a change of energy has to stay below to be accepted, at a temperature.

    With exponential noise, d < -T log u, that is Metropolis: it happens with probability min(1, e^(-d / T)).
    With logistic noise it is Barker's rule, 1 / (1 + e^(d / T)), which for one bit is a draw from its
    conditional distribution (Gibbs).
    """
    half = width >> 1
    for k in range(half):
        word = bits(counter + np.uint64(k) * GOLDEN)
        out[k] = temperature * threshold(word >> HIGH, barker)
        out[k + half] = temperature * threshold((word >> LOW) & BITS, barker)


@scalar
def shift(field: Row, weight: Float, row: Any, width: int) -> None:
    """Add weight * row, of float32 or (as uint16) bfloat16, to the fields."""
    for k in range(0, width, LANES):
        add(at(field, k), weight, at(row, k))
