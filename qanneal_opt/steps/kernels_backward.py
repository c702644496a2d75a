"""Compiled backward pass of a stack of Linear layers, and Adam on what is continuous in it."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.simd import HALF, TWO, ZERO, Row, at, compiled, dot, entry, fill, floats, total
from qanneal_opt.steps.kernels_forward import NEVER, UNIT, block_rows, forward, nth_layer, product
from qanneal_opt.steps.net import CROSS_ENTROPY, IDENTITY
from qanneal_opt.steps.rows import descend, net_of

Floats: TypeAlias = NDArray[np.float32]


@compiled
def outer(gradient: Row, left: Row, height: int, rows: Row, width: int, n: int) -> None:
    """Add left @ rows' to the flat gradient of a matrix, four entries at a time."""
    last = width - 1
    for j in range(height):
        g = at(left, j * n)
        for i in range(0, width, 4):
            a, b = at(rows, i * n), at(rows, min(i + 1, last) * n)
            c, d = at(rows, min(i + 2, last) * n), at(rows, min(i + 3, last) * n)
            ga, gb, gc, gd = ZERO, ZERO, ZERO, ZERO
            for s in range(n):
                ga += g[s] * a[s]
                gb += g[s] * b[s]
                gc += g[s] * c[s]
                gd += g[s] * d[s]
            k = j * width + i
            gradient[k] += ga
            if i + 1 < width:
                gradient[k + 1] += gb
            if i + 2 < width:
                gradient[k + 2] += gc
            if i + 3 < width:
                gradient[k + 3] += gd


@compiled
def output_slopes(net: Any, rows: Row, out: Row) -> None:
    """Write d J / d h_L of a block."""
    n, w = net.length, at(rows, net.sample * net.length)
    for c in range(net.classes):
        g = at(out, c * n)
        if net.loss == CROSS_ENTROPY:
            p, y = at(rows, (net.softmax + c) * n), at(rows, (net.target + c) * n)
            for s in range(n):
                g[s] = w[s] * (p[s] - y[s])
        else:
            r, slope = at(rows, (net.residual + c) * n), at(rows, (net.slope + c) * n)
            for s in range(n):
                g[s] = TWO * slope[s] * max(r[s], net.floor)


@compiled
def backward(net: Any, gradient: Row) -> None:
    """Add d J / d theta for biases, scales and the weights of plain layers; `forward` must have run."""
    n, theta = net.length, floats(net.theta)
    for block in range(net.blocks):
        rows, kept = block_rows(net, block), at(floats(net.cache), block * net.tall * n)
        here, below = floats(net.scratch), at(floats(net.scratch), net.half * n)
        output_slopes(net, rows, here)
        for back in range(net.depth):
            layer = nth_layer(net, net.depth - 1 - back)
            inputs, outputs, source = layer.inputs, layer.outputs, at(rows, layer.source * n)
            if layer.kind != IDENTITY:
                z, h = at(rows, layer.z * n), at(rows, layer.h * n)
                descend(layer.kind, layer.a, layer.b, z, h, here, outputs * n)
            for j in range(outputs):
                g = at(here, j * n)
                if layer.bias >= 0:
                    gradient[layer.bias + j] += total(g, n)
                if layer.scale >= 0:
                    place = layer.scale + j * layer.step
                    gradient[place] += dot(g, at(kept, (layer.cached + j) * n), n)
                    scale = theta[place]
                    for s in range(n):
                        g[s] *= scale
            if layer.scale < 0:
                outer(at(gradient, layer.weight), here, outputs, source, inputs, n)
            if back < net.depth - 1:
                fill(below, ZERO, inputs * n)
                product(below, inputs, at(theta, layer.weight), UNIT, inputs, here, outputs, n)
            here, below = below, here


@entry
def gradients(address: int, gradient: Floats, refresh: bool) -> float:
    """Write d J / d theta; with ``refresh`` a forward pass comes first, and J is returned."""
    net, value, slopes = net_of(address), 0.0, floats(gradient.ctypes.data)
    if refresh:
        value = forward(net, NEVER)
    fill(slopes, ZERO, gradient.size)
    backward(net, slopes)
    return value


@entry
def train(
    address: int, gradient: Floats, mean: Floats, square: Floats, parts: NDArray[np.int64], steps: int,
    lr: float, beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    """Take full-batch steps of Adam (Kingma and Ba, 2015) on parts of theta.

    ``parts`` (k, 4): first place, length, steps taken before, and whether the values are scales: these stay
    positive, by half the old value where the step would have left the positive numbers.
    """
    net = net_of(address)
    theta, slopes = floats(net.theta), floats(gradient.ctypes.data)
    for step in range(steps):
        forward(net, step > 0)
        fill(slopes, ZERO, gradient.size)
        backward(net, slopes)
        for k in range(parts.shape[0]):
            first, count, taken = parts[k, 0], parts[k, 1], parts[k, 2] + step + 1
            rate = np.float32(lr / (1.0 - beta1**taken))
            correction = np.float32(1.0 / math.sqrt(1.0 - beta2**taken))
            for i in range(first, first + count):
                g = slopes[i]
                mean[i] += np.float32(1.0 - beta1) * (g - mean[i])
                square[i] = np.float32(beta2) * square[i] + np.float32(1.0 - beta2) * g * g
                new = theta[i] - rate * mean[i] / (math.sqrt(square[i]) * correction + np.float32(eps))
                theta[i] = new if new > ZERO or parts[k, 3] == 0 else HALF * theta[i]
