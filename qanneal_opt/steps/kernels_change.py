"""Compiled exact changes of J under moves of single weights.

A move changes some weights at once. For one weight W_ji of layer l by d,

    dh_j = act(z_j + d h_i) - h_j,   dz of the next layer = W[:, j] dh_j,   and so on to the outputs,

and a cross-entropy with the kept softmax p changes by mean_s log(1 + sum_c p_c (e^dz_c - 1)) - sum_c y_c dz_c.
Weights into the last layer and into the one before it have loops of their own; every other move, and every
move of several weights, goes through `propagate`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .kernels import UNIT, block_loss, block_rows, cross_entropy, nth_layer, product
from .net import CHANGE, CROSS_ENTROPY, IDENTITY, LEAKY, MSE
from .rows import (
    ONE,
    THIRTY,
    TWO,
    ZERO,
    Float,
    Row,
    activate,
    add,
    at,
    change_of,
    compiled,
    descend,
    expm1,
    fill,
    floats,
    ints,
    largest,
    log1p,
    scalar,
    scaled,
)

EXACT, LINEAR, COMMIT = np.int64(0), np.int64(1), np.int64(2)
RECORD = CHANGE.itemsize
NEAR = np.float32(-0.999)  # float32 no longer resolves log(1 + x) for x below it


@scalar
def nth_change(changes: int, number: int) -> Any:
    """Give a change's record."""
    return change_of(changes + number * RECORD)


@scalar
def input_row(net: Any, rows: Row, layer: Any, column: int) -> Any:
    """Give what a weight is multiplied by; ones for a bias."""
    return at(rows, (layer.source + column if column >= 0 else net.ones) * net.length)


@compiled
def respond(net: Any, rows: Row, layer: Any, unit: int, change: Row, mode: int) -> None:
    """Turn a unit's change of z into its change of h, in place."""
    n, kind, a, b = net.length, layer.kind, layer.a, layer.b
    z, h = at(rows, (layer.z + unit) * n), at(rows, (layer.h + unit) * n)
    if mode == LINEAR:
        if kind != IDENTITY:
            descend(kind, a, b, z, h, change, n)
    elif kind == IDENTITY:
        if mode == COMMIT:
            add(z, ONE, change, n)
    else:
        new = at(floats(net.scratch), (2 * net.half + 3) * n)
        for s in range(n):
            new[s] = z[s] + change[s]
        activate(kind, a, b, new, change, n)
        if mode == COMMIT:
            for s in range(n):
                z[s] = new[s]
                new[s] = change[s]
        for s in range(n):
            change[s] -= h[s]
        if mode == COMMIT:
            for s in range(n):
                h[s] = new[s]


@compiled
def propagate(net: Any, block: int, changes: int, first: int, stop: int, mode: int) -> int:
    """Leave the changes of the outputs under changes ``first`` to ``stop`` in scratch; return their row.

    Output c has changed only where the flag of that row + c is set. LINEAR gives the first-order change;
    COMMIT writes z and h of the block too (theta is the caller's).
    """
    n, rows, theta = net.length, block_rows(net, block), floats(net.theta)
    scratch, flags = floats(net.scratch), ints(net.flags)
    here, after = np.int64(0), net.half  # scratch rows of the changed inputs and of the changed outputs
    live, only = 0, 0  # how many inputs have changed, and the last of them
    for number in range(net.depth):
        layer = nth_layer(net, number)
        inputs, outputs, weight = layer.inputs, layer.outputs, layer.weight
        for j in range(outputs):
            flags[after + j] = 1 if live > 0 else 0
            if live == 1:
                scaled(at(scratch, (after + j) * n), theta[weight + j * inputs + only], at(scratch, (here + only) * n), n)
        if live > 1:
            fill(at(scratch, after * n), ZERO, outputs * n)
            product(at(scratch, after * n), outputs, at(theta, weight), inputs, UNIT, at(scratch, here * n), inputs, n)
        for k in range(first, stop):
            change = nth_change(changes, k)
            if change.layer == number:
                j, i, d = change.row, change.column, change.value - theta[change.place]
                out = at(scratch, (after + j) * n)
                if flags[after + j] == 0:
                    fill(out, ZERO, n)
                    flags[after + j] = 1
                add(out, d, input_row(net, rows, layer, i), n)
                if live > 0 and i >= 0 and mode != LINEAR:
                    if flags[here + i] != 0:
                        add(out, d, at(scratch, (here + i) * n), n)
        live = 0
        for j in range(outputs):
            if flags[after + j] != 0:
                respond(net, rows, layer, j, at(scratch, (after + j) * n), mode)
                live += 1
                only = j
        if live > 1:
            for j in range(outputs):
                if flags[after + j] == 0:
                    fill(at(scratch, (after + j) * n), ZERO, n)
        here, after = after, here
    return here


@compiled
def likelihood(w: Row, growth: Row, linear: Row, n: int) -> Any:
    """Sum w (log(1 + growth) - linear), and count the samples that float32 cannot resolve."""
    result, poor = ZERO, ZERO
    for s in range(n):
        result += w[s] * (log1p(growth[s]) - linear[s])
        poor += ZERO if growth[s] > NEAR else ONE
    return result, poor


@compiled
def square_change(w: Row, o: Row, y: Row, d: Float, x: Row, n: int) -> Any:
    """Change of the sum of w (o - y)^2 when o changes by d x."""
    result = ZERO
    for s in range(n):
        q = d * x[s]
        result += w[s] * q * (TWO * (o[s] - y[s]) + q)
    return result


@compiled
def hinge_change(w: Row, o: Row, y: Row, d: Float, x: Row, margin: Float, inverse: Float, n: int) -> Any:
    """Change of the sum of w max(0, margin - y o / scale)^2 when o changes by d x."""
    result = ZERO
    for s in range(n):
        a = margin - y[s] * inverse * o[s]
        b = max(a - y[s] * inverse * (d * x[s]), ZERO)
        a = max(a, ZERO)
        result += w[s] * ((b - a) * (b + a))
    return result


@compiled
def elementwise(net: Any, rows: Row, c: int, d: Float, x: Row) -> Any:
    """Change of a block's weighted mse or hinge when output c changes by d x."""
    n = net.length
    w, o, y = at(rows, net.sample * n), at(rows, (net.output + c) * n), at(rows, (net.target + c) * n)
    if net.loss == MSE:
        return square_change(w, o, y, d, x, n)
    return hinge_change(w, o, y, d, x, net.margin, net.inverse, n)


@compiled
def softmax_change(net: Any, rows: Row, here: int) -> Any:
    """Change of a block's weighted cross-entropy under the output changes that `propagate` left."""
    n, flags, q = net.length, ints(net.flags), at(floats(net.scratch), here * net.length)
    outputs, w = at(rows, net.output * n), at(rows, net.sample * n)
    growth = at(floats(net.scratch), 2 * net.half * n)
    linear = at(growth, n)
    fill(growth, ZERO, 2 * n)
    widest = ZERO
    for c in range(net.classes):
        if flags[here + c] != 0:
            widest = max(widest, largest(at(q, c * n), n))
    if widest < THIRTY:
        for c in range(net.classes):
            if flags[here + c] != 0:
                u, p, y = at(q, c * n), at(rows, (net.softmax + c) * n), at(rows, (net.target + c) * n)
                for s in range(n):
                    growth[s] += p[s] * expm1(u[s])
                    linear[s] += y[s] * u[s]
        result, poor = likelihood(w, growth, linear, n)
        if poor == ZERO:
            return result
    spare = at(floats(net.scratch), (net.half - here) * n)
    for c in range(net.classes):
        if flags[here + c] == 0:
            fill(at(q, c * n), ZERO, n)
        add(at(q, c * n), ONE, at(outputs, c * n), n)
    return cross_entropy(net, rows, q, spare) - cross_entropy(net, rows, outputs, spare)


@compiled
def general_change(net: Any, changes: int, first: int, stop: int) -> float:
    """Give the exact change of J under changes ``first`` to ``stop`` made together."""
    result = 0.0
    for block in range(net.blocks):
        rows = block_rows(net, block)
        here = propagate(net, block, changes, first, stop, EXACT)
        if net.loss == CROSS_ENTROPY:
            result += softmax_change(net, rows, here)
        else:
            for c in range(net.classes):
                if ints(net.flags)[here + c] != 0:
                    x = at(floats(net.scratch), (here + c) * net.length)
                    result += elementwise(net, rows, c, ONE, x)
    return result


@compiled
def output_change(net: Any, layer: Any, change: Any, d: Float) -> Any:
    """Change of J under one weight into an output, by d; and the number of samples that it does not resolve."""
    n, j, result, poor = net.length, change.row, 0.0, ZERO
    for block in range(net.blocks):
        rows = block_rows(net, block)
        x = input_row(net, rows, layer, change.column)
        if net.loss != CROSS_ENTROPY:
            result += elementwise(net, rows, j, d, x)
        elif abs(d) * largest(x, n) < THIRTY:
            w, p, y = at(rows, net.sample * n), at(rows, (net.softmax + j) * n), at(rows, (net.target + j) * n)
            part, few = ZERO, ZERO
            for s in range(n):
                q = d * x[s]
                growth = p[s] * expm1(q)
                part += w[s] * (log1p(growth) - y[s] * q)
                few += ZERO if growth > NEAR else ONE
            result += part
            poor += few
        else:
            poor += ONE
    return result, poor


@compiled
def unit_change(net: Any, rows: Row, layer: Any, unit: int, d: Float, x: Row, new: Row, out: Row) -> None:
    """Write act(z + d x) - h of a unit."""
    n, kind, a, b = net.length, layer.kind, layer.a, layer.b
    z, h = at(rows, (layer.z + unit) * n), at(rows, (layer.h + unit) * n)
    if kind == LEAKY:
        for s in range(n):
            t = z[s] + d * x[s]
            out[s] = (t if t > ZERO else a * t) - h[s]
    else:
        for s in range(n):
            new[s] = z[s] + d * x[s]
        activate(kind, a, b, new, out, n)
        for s in range(n):
            out[s] -= h[s]


@compiled
def hidden_change(net: Any, last: Any, layer: Any, change: Any, d: Float) -> Any:
    """Do as `output_change` for one weight into the last layer but one, with cross-entropy."""
    n, j, classes, width, result = net.length, change.row, net.classes, last.inputs, 0.0
    outgoing, widest = at(floats(net.theta), last.weight + j), ZERO  # W_cj at c width
    for c in range(classes):
        widest = max(widest, abs(outgoing[c * width]))
    new = floats(net.scratch)
    dh, growth = at(new, n), at(new, 2 * n)
    for block in range(net.blocks):
        rows = block_rows(net, block)
        unit_change(net, rows, layer, j, d, input_row(net, rows, layer, change.column), new, dh)
        if not widest * largest(dh, n) < THIRTY:
            return 0.0, ONE
        fill(growth, ZERO, n)
        for c in range(0, classes - 1, 2):
            p, q = at(rows, (net.softmax + c) * n), at(rows, (net.softmax + c + 1) * n)
            u, v = outgoing[c * width], outgoing[(c + 1) * width]
            for s in range(n):
                growth[s] += p[s] * expm1(u * dh[s]) + q[s] * expm1(v * dh[s])
        if classes % 2 == 1:
            p, u = at(rows, (net.softmax + classes - 1) * n), outgoing[(classes - 1) * width]
            for s in range(n):
                growth[s] += p[s] * expm1(u * dh[s])
        linear = at(rows, (net.linear + j) * n)
        for s in range(n):
            dh[s] *= linear[s]
        part, poor = likelihood(at(rows, net.sample * n), growth, dh, n)
        if poor > ZERO:
            return 0.0, ONE
        result += part
    return result, ZERO


@compiled
def change_of_loss(net: Any, changes: int, first: int, stop: int) -> float:
    """Give the exact change of J under changes ``first`` to ``stop`` made together, the quickest way."""
    last = nth_layer(net, net.depth - 1)
    if stop == first + 1 and last.kind == IDENTITY:
        change = nth_change(changes, first)
        d = change.value - floats(net.theta)[change.place]
        result, poor = 0.0, ONE
        if change.layer == net.depth - 1:
            result, poor = output_change(net, last, change, d)
        elif change.layer == net.depth - 2 and net.loss == CROSS_ENTROPY:
            result, poor = hidden_change(net, last, nth_layer(net, change.layer), change, d)
        if poor == ZERO:
            return result
    return general_change(net, changes, first, stop)


@compiled
def commit(net: Any, changes: int, first: int, stop: int) -> float:
    """Make changes ``first`` to ``stop``; return the new J."""
    result, n, theta = 0.0, net.length, floats(net.theta)
    for block in range(net.blocks):
        rows = block_rows(net, block)
        propagate(net, block, changes, first, stop, COMMIT)
        result += block_loss(net, rows)
        for k in range(first, stop):
            change = nth_change(changes, k)
            if net.linear >= 0 and change.layer == net.depth - 1 and change.column >= 0:
                linear, y = at(rows, (net.linear + change.column) * n), at(rows, (net.target + change.row) * n)
                add(linear, change.value - theta[change.place], y, n)
    for k in range(first, stop):
        change = nth_change(changes, k)
        theta[change.place] = change.value
    return result
