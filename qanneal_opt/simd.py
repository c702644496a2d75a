"""Compiled arithmetic on rows: n contiguous float32, worked on with SIMD instructions.

Loops over a row have no branches and call no library, so that the compiler turns them into SIMD code. That
is why exp and log are polynomials here: `expf` costs eight times as much. A row is a pointer, and rows never
overlap: code that meets overlapping rows falls back to one number at a time.

A pointer does not keep its array alive, and numba frees what a kernel has made after the last line that names it.
So pointers are taken from arrays that the caller handed over: scratch is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Float: TypeAlias = Any  # np.float32, which mypy would widen
Row: TypeAlias = Any  # pointer to float32
F = TypeVar("F", bound=Callable[..., Any])

FAST = {"contract", "reassoc", "nsz", "arcp"}  # sums may be reordered; NaN and infinities keep their meaning
JIT: Any = numba.njit  # its stubs do not know all of its options
INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}  # quicker to compile


def entry(function: F) -> F:
    """Compile what Python calls, at the first call; the machine code is kept on disk."""
    return cast(F, JIT(cache=True, nogil=True, fastmath=FAST, error_model="numpy")(function))


def compiled(function: F) -> F:
    """Compile what other kernels call."""
    return cast(F, JIT(fastmath=FAST, **INNER)(function))


def borrowing(function: F) -> F:
    """Compile into its callers what allocates nothing and takes many arrays, in tuples and by rows.

    References to arrays, which the caller keeps, are not counted: a view of a row takes atomic additions otherwise. And
    the dozens of numbers that arrays are made of are not handed over on the stack.
    """
    return cast(F, JIT(forceinline=True, fastmath=FAST, _nrt=False, **INNER)(function))


def scalar(function: F) -> F:
    """Compile into the loops that call it; rounding stays as written, apart from fused multiply-adds."""
    return cast(F, JIT(forceinline=True, fastmath={"contract"}, **INNER)(function))


def cast_bits(source: Any, target: Any, operation: str) -> Any:
    """Make a function that reads the same bits as another type."""

    def typed(context: Any, value: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return getattr(builder, operation)(values[0], context.get_value_type(target))

        return target(source), lower

    return intrinsic(typed)


_POINTER: Any = types.CPointer
_FLOATS, _INTS = _POINTER(types.float32), _POINTER(types.int64)
as_int = cast_bits(types.float32, types.int32, "bitcast")
as_float = cast_bits(types.int32, types.float32, "bitcast")
floats = cast_bits(types.int64, _FLOATS, "inttoptr")
ints = cast_bits(types.int64, _INTS, "inttoptr")
words = cast_bits(types.int64, _POINTER(types.uint64), "inttoptr")
doubles = cast_bits(types.int64, _POINTER(types.float64), "inttoptr")
shorts = cast_bits(types.int64, _POINTER(types.uint16), "inttoptr")
int32s = cast_bits(types.int64, _POINTER(types.int32), "inttoptr")


def _at(context: Any, pointer: Any, offset: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.gep(values[0], [values[1]])

    return pointer(pointer, types.int64), lower


def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        return builder.call(builder.module.declare_intrinsic("llvm.fmuladd", [ir.FloatType()], kind), values)

    return types.float32(types.float32, types.float32, types.float32), lower


at: Any = intrinsic(_at)  # (pointer, offset): the pointer to an element
fma: Any = intrinsic(_fma)  # (a, b, c): a * b + c, one instruction where the machine has it

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
LOG2E, LN2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
ROUND = np.float32(1.5 * 2**23 + 127)  # x + ROUND has the nearest integer to x, plus 127, in its low bits
SHIFT, ROOT_HALF = np.int32(23), np.int32(0x3F3504F3)
P2, P3, P4, P5, P6 = (  # 2^f - 1 = f (ln 2 + f (P2 + ...)) to 3e-9 for |f| <= 1/2
    np.float32(c) for c in (0.240226512, 0.0555036146, 0.00961802234, 0.00133905515, 0.000154719739)
)
L3, L5, L7, L9 = (np.float32(2 / n) for n in (3, 5, 7, 9))
LOW, HIGH = np.float32(-87), np.float32(88)
MAGNITUDE = np.int32(0x7FFFFFFF)


@scalar
def exp2m1(a: Float, x: Float) -> Any:
    """2^(a x) - 1 to 1e-7, for a x in [-126, 127]: 2^k (1 + q) - 1, with q a polynomial in f, k + f = a x."""
    t = fma(a, x, ROUND)
    f = fma(a, x, ROUND - t)
    power = as_float(np.int32(as_int(t) << SHIFT))
    q = fma(fma(fma(fma(fma(P6, f, P5), f, P4), f, P3), f, P2), f, LN2) * f
    return fma(power, q, power - ONE)


@scalar
def exp2(a: Float, x: Float) -> Any:
    """2^(a x) to 1e-7, for a x in [-126, 127]."""
    t = fma(a, x, ROUND)
    f = fma(a, x, ROUND - t)
    power = as_float(np.int32(as_int(t) << SHIFT))
    q = fma(fma(fma(fma(fma(P6, f, P5), f, P4), f, P3), f, P2), f, LN2) * f
    return fma(power, q, power)


@scalar
def exp(x: Float) -> Any:
    """e^x to 2e-7, with x limited to [-87, 88]."""
    return exp2(LOG2E, min(max(x, LOW), HIGH))


@scalar
def log(u: Float) -> Any:
    """Natural logarithm to 1e-7, for u > 0: k ln 2 + log m with m in [sqrt(1/2), sqrt(2)]."""
    bits = as_int(u)
    k = np.int32(bits - ROOT_HALF) >> SHIFT
    f = as_float(np.int32(bits - (k << SHIFT))) - ONE
    t = f / (TWO + f)
    tt = t * t
    series = (((L9 * tt + L7) * tt + L5) * tt + L3) * tt * t
    return np.float32(k) * LN2 + (TWO * t + series)


@scalar
def log1p(x: Float) -> Any:
    """Logarithm of 1 + x to 1e-7, for x >= 0, with what the sum rounds away."""
    u = ONE + x
    return log(u) + (x - (u - ONE)) / u


@compiled
def total(a: Row, n: int) -> Any:
    """Sum of a row."""
    result = ZERO
    for s in range(n):
        result += a[s]
    return result


@compiled
def dot(a: Row, b: Row, n: int) -> Any:
    """Inner product of two rows."""
    result = ZERO
    for s in range(n):
        result += a[s] * b[s]
    return result


@compiled
def add(out: Row, weight: Float, row: Row, n: int) -> None:
    """Add weight * row."""
    for s in range(n):
        out[s] += weight * row[s]


@compiled
def scaled(out: Row, weight: Float, row: Row, n: int) -> None:
    """Write weight * row."""
    for s in range(n):
        out[s] = weight * row[s]


@compiled
def fill(out: Row, value: Float, n: int) -> None:
    """Write one value everywhere."""
    for s in range(n):
        out[s] = value


@compiled
def largest(row: Row, n: int) -> Any:
    """Find max |x| of a row on the bits: integers have a SIMD maximum, and NaN counts as huge."""
    top = np.int32(0)
    for s in range(n):
        top = max(top, np.int32(as_int(row[s]) & MAGNITUDE))
    return as_float(top)
