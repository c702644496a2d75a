"""Compiled forward pass of a stack of Linear layers, block by block of samples.

    z_l = s_l * (L_l h_{l-1}) + b_l,    h_l = act_l(z_l),    J = sum_s w_s loss(h_L(s), y(s))

A plain layer has s_l = 1 and L_l = W_l. A unit's values for the samples of a block are one row (see `rows`),
and all rows of a block stand together, so that a pass stays in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.simd import (
    LOG2E,
    LOW,
    ONE,
    ZERO,
    Row,
    at,
    compiled,
    dot,
    entry,
    exp,
    exp2,
    fill,
    floats,
    log,
    log1p,
    scalar,
)
from qanneal_opt.steps.net import CROSS_ENTROPY, IDENTITY, LAYER
from qanneal_opt.steps.rows import activate, layer_of, net_of

# numba would compile a function anew for a plain 1 or True as an argument.
UNIT: Any = np.int64(1)
NEVER: Any = np.bool_(False)
ALWAYS: Any = np.bool_(True)
RECORD = LAYER.itemsize


@scalar
def nth_layer(net: Any, number: int) -> Any:
    """Give a layer's record."""
    return layer_of(net.layers + number * RECORD)


@scalar
def block_rows(net: Any, block: int) -> Any:
    """Give the first row of a block."""
    return at(floats(net.data), block * net.height * net.length)


@scalar
def element(matrix: Row, place: int, inside: bool) -> Any:
    """Give an entry of a flat matrix, or 0 past its edge."""
    return matrix[place] if inside else ZERO


@compiled
def product(out: Row, height: int, matrix: Row, down: int, right: int, rows: Row, width: int, n: int) -> None:
    """Add a matrix times rows: out[j] += sum_i matrix[j down + i right] * rows[i].

    Two outputs and four inputs at a time, so that eight products share six loads.
    """
    last = width - 1
    for j in range(0, height, 2):
        o0, o1 = at(out, j * n), at(out, min(j + 1, height - 1) * n)
        for i in range(0, width, 4):
            r0, r1 = at(rows, i * n), at(rows, min(i + 1, last) * n)
            r2, r3 = at(rows, min(i + 2, last) * n), at(rows, min(i + 3, last) * n)
            k = j * down + i * right
            u0, u1 = matrix[k], element(matrix, k + right, i + 1 < width)
            u2 = element(matrix, k + 2 * right, i + 2 < width)
            u3 = element(matrix, k + 3 * right, i + 3 < width)
            if j + 1 < height:
                k += down
                v0, v1 = matrix[k], element(matrix, k + right, i + 1 < width)
                v2 = element(matrix, k + 2 * right, i + 2 < width)
                v3 = element(matrix, k + 3 * right, i + 3 < width)
                for s in range(n):
                    p, q = o0[s] + u0 * r0[s], o1[s] + v0 * r0[s]
                    p, q = p + u1 * r1[s], q + v1 * r1[s]
                    p, q = p + u2 * r2[s], q + v2 * r2[s]
                    o0[s], o1[s] = p + u3 * r3[s], q + v3 * r3[s]
            else:
                for s in range(n):
                    o0[s] = (o0[s] + u0 * r0[s]) + (u1 * r1[s] + (u2 * r2[s] + u3 * r3[s]))


@compiled
def cross_entropy(net: Any, rows: Row) -> Any:
    """Weighted sum over a block of log sum_c e^o_c - sum_c y_c o_c; writes that logarithm and the softmax."""
    n, classes, part = net.length, net.classes, at(floats(net.scratch), 2 * net.half * net.length)
    outputs, norm, top, mass = at(rows, net.output * n), at(rows, net.norm * n), at(part, n), at(part, 2 * n)
    for s in range(n):
        top[s] = outputs[s]
    for c in range(1, classes):
        o = at(outputs, c * n)
        for s in range(n):
            top[s] = o[s] if o[s] > top[s] else top[s]
    fill(mass, ZERO, n)
    fill(part, ZERO, n)
    for c in range(classes):
        o, y, p = at(outputs, c * n), at(rows, (net.target + c) * n), at(rows, (net.softmax + c) * n)
        for s in range(n):
            x = o[s] - top[s]
            p[s] = exp(x)
            mass[s] += p[s]
            part[s] += y[s] * x
    for s in range(n):
        x = log1p(mass[s] - ONE)
        part[s] = x - part[s]
        norm[s] = top[s] + x
        mass[s] = ONE / mass[s]
    for c in range(classes):
        p = at(rows, (net.softmax + c) * n)
        for s in range(n):
            p[s] *= mass[s]
    return dot(at(rows, net.sample * n), part, n)


@compiled
def softmax(net: Any, rows: Row) -> None:
    """Write p = e^(o - norm), and log sum_c p_c: the excess."""
    n = net.length
    norm, excess = at(rows, net.norm * n), at(rows, net.excess * n)
    fill(excess, ZERO, n)
    for c in range(net.classes):
        o, p = at(rows, (net.output + c) * n), at(rows, (net.softmax + c) * n)
        for s in range(n):
            x = exp2(LOG2E, max(o[s] - norm[s], LOW))
            p[s] = x
            excess[s] += x
    for s in range(n):
        excess[s] = log(excess[s])


@compiled
def squares(net: Any, rows: Row) -> Any:
    """Sum over a block of max(r, floor)^2; writes the residuals r = slope o + target."""
    n, count, floor, result = net.length, net.classes * net.length, net.floor, ZERO
    o, r = at(rows, net.output * n), at(rows, net.residual * n)
    slope, target = at(rows, net.slope * n), at(rows, net.target * n)
    for s in range(count):
        r[s] = slope[s] * o[s] + target[s]
        result += max(r[s], floor) * max(r[s], floor)
    return result


@compiled
def block_loss(net: Any, rows: Row) -> Any:
    """Weighted sum of the losses of a block from its outputs; keeps the softmax or the residuals."""
    if net.loss == CROSS_ENTROPY:
        return cross_entropy(net, rows)
    return squares(net, rows)


@compiled
def loss_for_moves(net: Any, rows: Row) -> Any:
    """Do as `block_loss`, and fill what the evaluation of moves needs besides."""
    result = block_loss(net, rows)
    if net.loss == CROSS_ENTROPY:
        softmax(net, rows)
    return result


@compiled
def loss_of_outputs(net: Any) -> float:
    """Give J from the outputs that stand in the data, and fill what the evaluation of moves needs."""
    result = 0.0
    for block in range(net.blocks):
        result += loss_for_moves(net, block_rows(net, block))
    return result


@compiled
def layer_forward(net: Any, layer: Any, rows: Row, kept: Row, reuse: bool) -> None:
    """Fill a layer's z and h; a layer with a scale keeps L h, or finds it there when ``reuse`` is set."""
    n, theta, outputs = net.length, floats(net.theta), layer.outputs
    source, z, mixed = at(rows, layer.source * n), at(rows, layer.z * n), at(kept, layer.cached * n)
    matrix = at(theta, layer.weight)
    if layer.scale < 0:
        for j in range(outputs):
            fill(at(z, j * n), theta[layer.bias + j] if layer.bias >= 0 else ZERO, n)
        product(z, outputs, matrix, layer.inputs, UNIT, source, layer.inputs, n)
    else:
        if not reuse:
            fill(mixed, ZERO, outputs * n)
            product(mixed, outputs, matrix, layer.inputs, UNIT, source, layer.inputs, n)
        for j in range(outputs):
            out, row = at(z, j * n), at(mixed, j * n)
            scale = theta[layer.scale + j * layer.step]
            bias = theta[layer.bias + j] if layer.bias >= 0 else ZERO
            for s in range(n):
                out[s] = scale * row[s] + bias
    if layer.kind != IDENTITY:
        activate(layer.kind, layer.a, layer.b, z, at(rows, layer.h * n), outputs * n)


@compiled
def forward(net: Any, reuse: bool) -> float:
    """Fill z, h and the softmax, return J; with ``reuse`` the first layer's L h is taken from the cache."""
    result = 0.0
    for block in range(net.blocks):
        rows, kept = block_rows(net, block), at(floats(net.cache), block * net.tall * net.length)
        for number in range(net.depth):
            layer_forward(net, nth_layer(net, number), rows, kept, reuse and number == 0)
        result += block_loss(net, rows)
    return result


@entry
def synchronize(address: int) -> float:
    """Fill everything that follows from theta, return J."""
    net = net_of(address)
    n, last = net.length, nth_layer(net, net.depth - 1)
    if net.linear >= 0:
        for block in range(net.blocks):
            rows = block_rows(net, block)
            linear, targets = at(rows, net.linear * n), at(rows, net.target * n)
            fill(linear, ZERO, last.inputs * n)
            matrix = at(floats(net.theta), last.weight)
            product(linear, last.inputs, matrix, UNIT, last.inputs, targets, net.classes, n)
    value = forward(net, NEVER)
    if net.loss == CROSS_ENTROPY:
        for block in range(net.blocks):
            softmax(net, block_rows(net, block))
    return value
