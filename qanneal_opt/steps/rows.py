"""Compiled arithmetic on rows: one unit's values for all samples of a block, contiguous float32.

Loops over a row have no branches and call no library, so that the compiler turns them into SIMD code. That
is why exp and log are polynomials here: `expf` costs eight times as much. Rows never overlap, because code
that may meet overlapping rows falls back to one sample at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = NDArray[np.float32]  # (B,)
Rows: TypeAlias = NDArray[np.float32]  # (rows, B)
F = TypeVar("F", bound=Callable[..., Any])

IDENTITY, LEAKY, CLAMP, TANH, SIGMOID, SILU, ELU, SOFTPLUS, GELU = range(9)


def compiled(function: F) -> F:
    """Compile at the first call, keep the machine code on disk, let sums be reordered for SIMD."""
    fast = {"contract", "reassoc", "nsz", "arcp"}  # infinities and NaN keep their meaning
    return cast(F, numba.njit(cache=True, nogil=True, fastmath=fast, error_model="numpy")(function))


def scalar(function: F) -> F:
    """Compile into the loops that call it; rounding stays as written, apart from fused multiply-adds."""
    options = {"cache": True, "forceinline": True, "fastmath": {"contract"}, "error_model": "numpy"}
    return cast(F, numba.njit(**options)(function))


ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
LOG2E, LN2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
ROUND = np.float32(1.5 * 2**23)  # adding it rounds to an integer, which then stands in the low bits
BIAS, SHIFT, ROOT_HALF = np.int32(0x3F800000), np.int32(23), np.int32(0x3F3504F3)
E2, E3, E4, E5, E6 = (np.float32(c) for c in (0.5, 0.16666513, 0.04166619, 0.0083696, 0.00139517))
L3, L5, L7, L9 = (np.float32(2 / n) for n in (3, 5, 7, 9))
LOW, HIGH, THIRTY = np.float32(-87), np.float32(88), np.float32(30)
ERF = np.float32(0.3275911)  # Abramowitz and Stegun 7.1.26: erf within 1.5e-7
ERF1, ERF2, ERF3, ERF4, ERF5 = (
    np.float32(c) for c in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
)
SQRT_HALF, GAUSS = np.float32(0.5**0.5), np.float32(0.3989422804014327)
MAGNITUDE = np.int32(0x7FFFFFFF)


@scalar
def expm1(x: np.float32) -> Any:
    """e^x - 1 for -87 <= x <= 88 to 1e-7: 2^n (1 + q) - 1, with q a polynomial on [-ln 2 / 2, ln 2 / 2]."""
    shifted = x * LOG2E + ROUND
    r = x - (shifted - ROUND) * LN2
    power = np.int32((np.float32(shifted).view(np.int32) << SHIFT) + BIAS).view(np.float32)
    q = ((((E6 * r + E5) * r + E4) * r + E3) * r + E2) * (r * r) + r
    return power * q + (power - ONE)


@scalar
def exp(x: np.float32) -> Any:
    """e^x to 1e-7, with x limited to [-87, 88]."""
    x = min(max(x, LOW), HIGH)
    shifted = x * LOG2E + ROUND
    r = x - (shifted - ROUND) * LN2
    power = np.int32((np.float32(shifted).view(np.int32) << SHIFT) + BIAS).view(np.float32)
    q = ((((E6 * r + E5) * r + E4) * r + E3) * r + E2) * (r * r) + r
    return power * q + power


@scalar
def log1p(x: np.float32) -> Any:
    """log(1 + x) to 1e-7 for x > -1: k ln 2 + log m with m in [sqrt(1/2), sqrt(2)], and what 1 + x rounded away."""
    u = ONE + x
    bits = np.float32(u).view(np.int32)
    k = np.int32(bits - ROOT_HALF) >> SHIFT
    f = np.int32(bits - np.int32(k << SHIFT)).view(np.float32) - ONE
    t = f / (TWO + f)
    tt = t * t
    series = (((L9 * tt + L7) * tt + L5) * tt + L3) * tt * t
    return np.float32(k) * LN2 + (TWO * t + (series + (x - (u - ONE)) / u))


@scalar
def tanh(x: np.float32) -> Any:
    """Hyperbolic tangent to 2e-7."""
    e = expm1(min(max(TWO * x, -THIRTY), THIRTY))
    return e / (e + TWO)


@scalar
def sigmoid(x: np.float32) -> Any:
    """1 / (1 + e^-x) to 2e-7."""
    return ONE / (ONE + exp(-x))


@scalar
def normal(x: np.float32) -> Any:
    """Distribution function of the standard normal, within 2e-7."""
    y = abs(x) * SQRT_HALF
    t = ONE / (ONE + ERF * y)
    tail = HALF * ((((ERF5 * t + ERF4) * t + ERF3) * t + ERF2) * t + ERF1) * t * exp(-y * y)
    return ONE - tail if x > ZERO else tail


@compiled
def activate(kind: int, a: np.float32, b: np.float32, z: Row, out: Row) -> None:
    """Write act(z); ``a`` and ``b`` are the activation's constants."""
    if kind == LEAKY:
        for s in range(out.size):
            out[s] = z[s] if z[s] > ZERO else a * z[s]
    elif kind == CLAMP:
        for s in range(out.size):
            out[s] = min(max(z[s], a), b)
    elif kind == TANH:
        for s in range(out.size):
            out[s] = tanh(z[s])
    elif kind == SIGMOID:
        for s in range(out.size):
            out[s] = sigmoid(z[s])
    elif kind == SILU:
        for s in range(out.size):
            out[s] = z[s] * sigmoid(z[s])
    elif kind == ELU:
        for s in range(out.size):
            out[s] = z[s] if z[s] > ZERO else a * expm1(max(min(z[s], ZERO), LOW))
    elif kind == SOFTPLUS:
        for s in range(out.size):
            out[s] = z[s] if a * z[s] > b else log1p(exp(a * z[s])) / a
    elif kind == GELU:
        for s in range(out.size):
            out[s] = z[s] * normal(z[s])
    else:
        for s in range(out.size):
            out[s] = z[s]


@compiled
def descend(kind: int, a: np.float32, b: np.float32, z: Row, h: Row, g: Row) -> None:
    """Multiply g by act'(z), where h = act(z); at kinks torch's choice."""
    if kind == LEAKY:
        for s in range(g.size):
            g[s] *= ONE if z[s] > ZERO else a
    elif kind == CLAMP:
        for s in range(g.size):
            g[s] *= ONE if (z[s] > a) & (z[s] < b) else ZERO
    elif kind == TANH:
        for s in range(g.size):
            g[s] *= ONE - h[s] * h[s]
    elif kind == SIGMOID:
        for s in range(g.size):
            g[s] *= h[s] * (ONE - h[s])
    elif kind == SILU:
        for s in range(g.size):
            p = sigmoid(z[s])
            g[s] *= p * (ONE + z[s] * (ONE - p))
    elif kind == ELU:
        for s in range(g.size):
            g[s] *= ONE if z[s] > ZERO else h[s] + a
    elif kind == SOFTPLUS:
        for s in range(g.size):
            g[s] *= ONE if a * z[s] > b else sigmoid(a * z[s])
    elif kind == GELU:
        for s in range(g.size):
            g[s] *= normal(z[s]) + z[s] * GAUSS * exp(-HALF * z[s] * z[s])


@compiled
def total(a: Row) -> Any:
    """Sum of a row."""
    result = ZERO
    for s in range(a.size):
        result += a[s]
    return result


@compiled
def dot(a: Row, b: Row) -> Any:
    """Inner product of two rows."""
    result = ZERO
    for s in range(a.size):
        result += a[s] * b[s]
    return result


@compiled
def dots(g: Row, a: Row, b: Row, c: Row, d: Row) -> Any:
    """Inner products of g with four rows, read once."""
    ga, gb, gc, gd = ZERO, ZERO, ZERO, ZERO
    for s in range(g.size):
        ga += g[s] * a[s]
        gb += g[s] * b[s]
        gc += g[s] * c[s]
        gd += g[s] * d[s]
    return ga, gb, gc, gd


@compiled
def add(out: Row, weight: np.float32, row: Row) -> None:
    """Add weight * row."""
    for s in range(out.size):
        out[s] += weight * row[s]


@compiled
def scaled(out: Row, weight: np.float32, row: Row) -> None:
    """Write weight * row."""
    for s in range(out.size):
        out[s] = weight * row[s]


@compiled
def largest(row: Row) -> Any:
    """max |x| of a row, found on the bits: integers have a SIMD maximum, NaN counts as huge."""
    top = np.int32(0)
    for s in range(row.size):
        top = max(top, np.int32(np.float32(row[s]).view(np.int32) & MAGNITUDE))
    return np.int32(top).view(np.float32)


@scalar
def entry(matrix: NDArray[np.float32], place: int, inside: bool) -> Any:
    """An entry of a flat matrix, or 0 past its edge."""
    return matrix[place] if inside else ZERO


@compiled
def product(
    out: Rows, row: int, height: int, matrix: NDArray[np.float32], first: int, down: int, right: int,
    rows: Rows, base: int, width: int,
) -> None:  # fmt: skip
    """Add a matrix times rows: out[row + j] += sum_i matrix[first + j down + i right] * rows[base + i].

    Two outputs and four inputs at a time, so that eight products share six loads.
    """
    end = base + width - 1
    for j in range(0, height, 2):
        o0, o1 = out[row + j], out[row + min(j + 1, height - 1)]
        for k in range(0, width, 4):
            r0, r1 = rows[base + k], rows[min(base + k + 1, end)]
            r2, r3 = rows[min(base + k + 2, end)], rows[min(base + k + 3, end)]
            at = first + j * down + k * right
            u0, u1 = matrix[at], entry(matrix, at + right, k + 1 < width)
            u2, u3 = entry(matrix, at + 2 * right, k + 2 < width), entry(matrix, at + 3 * right, k + 3 < width)
            if j + 1 < height:
                at += down
                v0, v1 = matrix[at], entry(matrix, at + right, k + 1 < width)
                v2, v3 = entry(matrix, at + 2 * right, k + 2 < width), entry(matrix, at + 3 * right, k + 3 < width)
                for s in range(o0.size):
                    p, q = o0[s] + u0 * r0[s], o1[s] + v0 * r0[s]
                    p, q = p + u1 * r1[s], q + v1 * r1[s]
                    p, q = p + u2 * r2[s], q + v2 * r2[s]
                    o0[s], o1[s] = p + u3 * r3[s], q + v3 * r3[s]
            else:
                for s in range(o0.size):
                    o0[s] = (o0[s] + u0 * r0[s]) + (u1 * r1[s] + (u2 * r2[s] + u3 * r3[s]))
