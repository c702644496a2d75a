"""Compiled forward and backward passes of a stack of Linear layers, block by block of samples.

    z_l = s_l * (L_l h_{l-1}) + b_l,    h_l = act_l(z_l),    J = sum_s w_s loss(h_L(s), y(s))

A plain layer has s_l = 1 and L_l = W_l. A unit's values for the samples of a block are one row (see `rows`),
and all rows of a block stand together, so that a pass stays in the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rows import IDENTITY, ONE, TWO, ZERO, Row, Rows, activate, compiled, descend, dot, dots, exp, log1p, product, total

CROSS_ENTROPY, MSE, HINGE = range(3)

LAYER = np.dtype(
    [
        ("inputs", np.int64),
        ("outputs", np.int64),
        ("source", np.int64),  # first row in a block of the inputs,
        ("z", np.int64),  # of z,
        ("h", np.int64),  # and of h: the same rows as z where act is the identity
        ("weight", np.int64),  # place in theta of W or L,
        ("bias", np.int64),  # of the bias (-1: none),
        ("scale", np.int64),  # of the scale (-1: a plain layer)
        ("step", np.int64),  # from one row's scale to the next; 0: one scale for the tensor
        ("cached", np.int64),  # first row of L h in the cache
        ("kind", np.int64),  # activation
        ("a", np.float32),  # and its constants
        ("b", np.float32),
    ],
    align=True,
)


class Net(NamedTuple):
    """All that the kernels know of a network and its data."""

    data: NDArray[np.float32]  # (blocks, rows, B): inputs, ones, z and h of each layer, what the loss needs
    theta: NDArray[np.float32]  # all parameters, flat
    layers: NDArray[Any]  # (L,) of LAYER
    cache: NDArray[np.float32]  # (blocks, rows, B): L h of layers with a scale
    scratch: NDArray[np.float32]  # (2 half + 4, B)
    flags: NDArray[np.int64]  # (2 half,): units that a move changes
    half: int  # the most units of a layer, inputs included
    loss: int
    margin: np.float32  # of the hinge
    inverse: np.float32  # 1 / scale of the hinge
    classes: int  # output units
    output: int  # first row of the outputs,
    target: int  # of the targets,
    softmax: int  # of the softmax (cross-entropy only),
    linear: int  # and of sum_c y_c W_ci for the inputs i of the last layer (-1: not kept)
    sample: int  # row of sample weights: they sum to 1, or to 1 / classes for a mean over elements
    ones: int  # row of ones, a bias's input


@compiled
def softmax(rows: Rows, first: int, count: int, out: Rows, place: int, top: Row, mass: Row, inverse: Row) -> None:
    """Write the softmax of ``count`` rows, their maximum ``top`` and ``mass``, the sum of exp(o - top)."""
    top[:] = rows[first]
    for c in range(1, count):
        row = rows[first + c]
        for s in range(top.size):
            top[s] = row[s] if row[s] > top[s] else top[s]
    mass[:] = ZERO
    for c in range(count):
        row, p = rows[first + c], out[place + c]
        for s in range(top.size):
            e = exp(row[s] - top[s])
            p[s] = e
            mass[s] += e
    for s in range(top.size):
        inverse[s] = ONE / mass[s]
    for c in range(count):
        p = out[place + c]
        for s in range(top.size):
            p[s] *= inverse[s]


@compiled
def cross_entropy(net: Net, rows: Rows, outputs: Rows, first: int, out: Rows, place: int) -> Any:
    """Weighted sum over a block of log sum_c e^o_c - sum_c y_c o_c; the softmax goes to ``out``."""
    top, mass, spare = net.scratch[2 * net.half], net.scratch[2 * net.half + 1], net.scratch[2 * net.half + 2]
    softmax(outputs, first, net.classes, out, place, top, mass, spare)
    for s in range(mass.size):
        spare[s] = log1p(mass[s] - ONE)
    for c in range(net.classes):
        y, o = rows[net.target + c], outputs[first + c]
        for s in range(spare.size):
            spare[s] -= y[s] * (o[s] - top[s])
    return dot(rows[net.sample], spare)


@compiled
def block_loss(net: Net, rows: Rows) -> Any:
    """Weighted sum of the losses of a block from its outputs; keeps the softmax for cross-entropy."""
    if net.loss == CROSS_ENTROPY:
        return cross_entropy(net, rows, rows, net.output, rows, net.softmax)
    w, result = rows[net.sample], ZERO
    for c in range(net.classes):
        y, o, part = rows[net.target + c], rows[net.output + c], ZERO
        if net.loss == MSE:
            for s in range(w.size):
                part += w[s] * (o[s] - y[s]) * (o[s] - y[s])
        else:
            for s in range(w.size):
                lack = max(net.margin - y[s] * o[s] * net.inverse, ZERO)
                part += w[s] * lack * lack
        result += part
    return result


@compiled
def layer_forward(net: Net, layer: Any, rows: Rows, kept: Rows, reuse: bool) -> None:
    """Fill a layer's z and h; a layer with a scale keeps L h, or finds it there when ``reuse`` is set."""
    if layer.scale < 0:
        for j in range(layer.outputs):
            rows[layer.z + j][:] = net.theta[layer.bias + j] if layer.bias >= 0 else ZERO
        product(
            rows, layer.z, layer.outputs, net.theta, layer.weight, layer.inputs, 1, rows, layer.source, layer.inputs
        )
    else:
        if not reuse:
            kept[layer.cached : layer.cached + layer.outputs] = ZERO
            product(
                kept, layer.cached, layer.outputs, net.theta, layer.weight, layer.inputs, 1,
                rows, layer.source, layer.inputs,
            )  # fmt: skip
        for j in range(layer.outputs):
            z, mixed = rows[layer.z + j], kept[layer.cached + j]
            scale = net.theta[layer.scale + j * layer.step]
            bias = net.theta[layer.bias + j] if layer.bias >= 0 else ZERO
            for s in range(z.size):
                z[s] = scale * mixed[s] + bias
    if layer.kind != IDENTITY:
        for j in range(layer.outputs):
            activate(layer.kind, layer.a, layer.b, rows[layer.z + j], rows[layer.h + j])


@compiled
def forward(net: Net, reuse: bool) -> float:
    """Fill z, h and the softmax, return J; with ``reuse`` the first layer's L h is taken from the cache."""
    result = 0.0
    for block in range(net.data.shape[0]):
        rows = net.data[block]
        for index in range(net.layers.size):
            layer_forward(net, net.layers[index], rows, net.cache[block], reuse and index == 0)
        result += block_loss(net, rows)
    return result


@compiled
def synchronize(net: Net) -> float:
    """Fill everything that follows from theta, return J."""
    last = net.layers[net.layers.size - 1]
    if net.linear >= 0:
        for block in range(net.data.shape[0]):
            rows = net.data[block]
            rows[net.linear : net.linear + last.inputs] = ZERO
            product(
                rows, net.linear, last.inputs, net.theta, last.weight, 1, last.inputs, rows, net.target, net.classes
            )
    return forward(net, False)


@compiled
def output_slopes(net: Net, rows: Rows, out: Rows, place: int) -> None:
    """Write d J / d h_L of a block."""
    w = rows[net.sample]
    for c in range(net.classes):
        g, y, o = out[place + c], rows[net.target + c], rows[net.output + c]
        if net.loss == CROSS_ENTROPY:
            p = rows[net.softmax + c]
            for s in range(g.size):
                g[s] = w[s] * (p[s] - y[s])
        elif net.loss == MSE:
            for s in range(g.size):
                g[s] = TWO * w[s] * (o[s] - y[s])
        else:
            for s in range(g.size):
                lack = max(net.margin - y[s] * o[s] * net.inverse, ZERO)
                g[s] = -TWO * net.inverse * w[s] * y[s] * lack


@compiled
def outer(
    gradient: NDArray[np.float32], first: int, left: Rows, place: int, height: int, rows: Rows, base: int, width: int
) -> None:
    """Add left @ rows' to the flat gradient of a matrix."""
    end = base + width - 1
    for j in range(height):
        for i in range(0, width, 4):
            a, b = rows[base + i], rows[min(base + i + 1, end)]
            c, d = rows[min(base + i + 2, end)], rows[min(base + i + 3, end)]
            sums = dots(left[place + j], a, b, c, d)
            for k in range(min(4, width - i)):
                gradient[first + j * width + i + k] += sums[k]


@compiled
def backward(net: Net, gradient: NDArray[np.float32]) -> None:
    """Write d J / d theta for biases, scales and the weights of plain layers; `forward` must have run."""
    gradient[:] = ZERO
    scratch = net.scratch
    for block in range(net.data.shape[0]):
        rows = net.data[block]
        here, below = 0, net.half
        output_slopes(net, rows, scratch, here)
        for back in range(net.layers.size):
            layer = net.layers[net.layers.size - 1 - back]
            for j in range(layer.outputs):
                g = scratch[here + j]
                if layer.kind != IDENTITY:
                    descend(layer.kind, layer.a, layer.b, rows[layer.z + j], rows[layer.h + j], g)
                if layer.bias >= 0:
                    gradient[layer.bias + j] += total(g)
                if layer.scale >= 0:
                    gradient[layer.scale + j * layer.step] += dot(g, net.cache[block, layer.cached + j])
                    scale = net.theta[layer.scale + j * layer.step]
                    for s in range(g.size):
                        g[s] *= scale
            if layer.scale < 0:
                outer(gradient, layer.weight, scratch, here, layer.outputs, rows, layer.source, layer.inputs)
            if back < net.layers.size - 1:
                scratch[below : below + layer.inputs] = ZERO
                product(
                    scratch, below, layer.inputs, net.theta, layer.weight, 1, layer.inputs,
                    scratch, here, layer.outputs,
                )  # fmt: skip
            here, below = below, here
