"""Compiled activations and their derivatives on rows: one unit's values for all samples of a block."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types

from qanneal_opt.simd import (
    HALF,
    LOG2E,
    LOW,
    ONE,
    TWO,
    ZERO,
    Float,
    Row,
    cast_bits,
    compiled,
    exp,
    exp2m1,
    log1p,
    scalar,
)
from qanneal_opt.steps.net import CHANGE, CLAMP, ELU, GELU, LAYER, LEAKY, NET, SIGMOID, SILU, SOFTPLUS, TANH

net_of, layer_of, change_of = (
    cast_bits(types.int64, numba.from_dtype(dtype), "inttoptr") for dtype in (NET, LAYER, CHANGE)
)

THIRTY = np.float32(30)
ERF = np.float32(0.3275911)  # Abramowitz and Stegun 7.1.26: erf within 1.5e-7
ERF1, ERF2, ERF3, ERF4, ERF5 = (
    np.float32(c) for c in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
)
SQRT_HALF, GAUSS = np.float32(0.5**0.5), np.float32(0.3989422804014327)


@scalar
def tanh(x: Float) -> Any:
    """Hyperbolic tangent to 2e-7."""
    e = exp2m1(LOG2E, min(max(TWO * x, -THIRTY), THIRTY))
    return e / (e + TWO)


@scalar
def sigmoid(x: Float) -> Any:
    """1 / (1 + e^-x) to 2e-7."""
    return ONE / (ONE + exp(-x))


@scalar
def normal(x: Float) -> Any:
    """Distribution function of the standard normal, within 2e-7."""
    y = abs(x) * SQRT_HALF
    t = ONE / (ONE + ERF * y)
    tail = HALF * ((((ERF5 * t + ERF4) * t + ERF3) * t + ERF2) * t + ERF1) * t * exp(-y * y)
    return ONE - tail if x > ZERO else tail


@compiled
def activate(kind: int, a: Float, b: Float, z: Row, out: Row, n: int) -> None:
    """Write act(z); ``a`` and ``b`` are the activation's constants."""
    if kind == LEAKY:
        for s in range(n):
            out[s] = z[s] if z[s] > ZERO else a * z[s]
    elif kind == CLAMP:
        for s in range(n):
            out[s] = min(max(z[s], a), b)
    elif kind == TANH:
        for s in range(n):
            out[s] = tanh(z[s])
    elif kind == SIGMOID:
        for s in range(n):
            out[s] = sigmoid(z[s])
    elif kind == SILU:
        for s in range(n):
            out[s] = z[s] * sigmoid(z[s])
    elif kind == ELU:
        for s in range(n):
            out[s] = z[s] if z[s] > ZERO else a * exp2m1(LOG2E, max(min(z[s], ZERO), LOW))
    elif kind == SOFTPLUS:
        for s in range(n):
            out[s] = z[s] if a * z[s] > b else log1p(exp(a * z[s])) / a
    elif kind == GELU:
        for s in range(n):
            out[s] = z[s] * normal(z[s])
    else:
        for s in range(n):
            out[s] = z[s]


@compiled
def descend(kind: int, a: Float, b: Float, z: Row, h: Row, g: Row, n: int) -> None:
    """Multiply g by act'(z), where h = act(z); at kinks torch's choice."""
    if kind == LEAKY:
        for s in range(n):
            g[s] *= ONE if z[s] > ZERO else a
    elif kind == CLAMP:
        for s in range(n):
            g[s] *= ONE if (z[s] > a) & (z[s] < b) else ZERO
    elif kind == TANH:
        for s in range(n):
            g[s] *= ONE - h[s] * h[s]
    elif kind == SIGMOID:
        for s in range(n):
            g[s] *= h[s] * (ONE - h[s])
    elif kind == SILU:
        for s in range(n):
            p = sigmoid(z[s])
            g[s] *= p * (ONE + z[s] * (ONE - p))
    elif kind == ELU:
        for s in range(n):
            g[s] *= ONE if z[s] > ZERO else h[s] + a
    elif kind == SOFTPLUS:
        for s in range(n):
            g[s] *= ONE if a * z[s] > b else sigmoid(a * z[s])
    elif kind == GELU:
        for s in range(n):
            g[s] *= normal(z[s]) + z[s] * GAUSS * exp(-HALF * z[s] * z[s])
