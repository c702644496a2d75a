"""Compiled exact changes of J under moves of single weights, and Metropolis over them.

A move changes some weights at once. For one weight W_ji of layer l by d,

    dh_j = act(z_j + d h_i) - h_j,   dz of the next layer = W[:, j] dh_j,   and so on to the outputs,

and a cross-entropy with the kept softmax p changes by mean_s log(1 + sum_c p_c (e^dz_c - 1)) - sum_c y_c dz_c.
Weights into the last layer but one and into the last one have loops of their own; every other move, and
every move of several weights, goes through `propagate`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .kernels import CROSS_ENTROPY, MSE, Net, block_loss, cross_entropy, forward
from .rows import (
    IDENTITY,
    LEAKY,
    ONE,
    THIRTY,
    TWO,
    ZERO,
    Row,
    Rows,
    activate,
    add,
    compiled,
    descend,
    dot,
    expm1,
    largest,
    log1p,
    product,
    scaled,
)

EXACT, LINEAR, COMMIT = range(3)
NEAR = np.float32(-0.999)


class Changes(NamedTuple):
    """Weights that moves change."""

    layer: NDArray[np.int64]  # (c,)
    row: NDArray[np.int64]  # (c,) output unit
    column: NDArray[np.int64]  # (c,) input unit; -1: the bias
    place: NDArray[np.int64]  # (c,) in theta
    value: NDArray[np.float32]  # (c,) new value


@compiled
def locate(net: Net, slots: NDArray[np.int64], slot: NDArray[np.int64], index: NDArray[np.int64], out: Changes) -> bool:
    """Fill ``out`` from parameters ``slot`` and flat indices; False if one lies outside its parameter.

    ``slots`` (parameters, 2): the layer, and whether it is its bias.
    """
    for c in range(slot.size):
        if not 0 <= slot[c] < slots.shape[0]:
            return False
        number, is_bias = slots[slot[c]]
        layer = net.layers[number]
        size = layer.outputs if is_bias else layer.outputs * layer.inputs
        if not 0 <= index[c] < size:
            return False
        out.layer[c] = number
        out.row[c] = index[c] if is_bias else index[c] // layer.inputs
        out.column[c] = -1 if is_bias else index[c] % layer.inputs
        out.place[c] = index[c] + (layer.bias if is_bias else layer.weight)
    return True


@compiled
def input_row(net: Net, rows: Rows, layer: Any, column: int) -> Any:
    """What a weight is multiplied by; ones for a bias."""
    return rows[layer.source + column] if column >= 0 else rows[net.ones]


@compiled
def respond(net: Net, rows: Rows, layer: Any, unit: int, change: Row, mode: int) -> None:
    """Turn a unit's change of z into its change of h, in place."""
    z, h, new = rows[layer.z + unit], rows[layer.h + unit], net.scratch[2 * net.half + 3]
    if mode == LINEAR:
        if layer.kind != IDENTITY:
            descend(layer.kind, layer.a, layer.b, z, h, change)
    elif layer.kind == IDENTITY:
        if mode == COMMIT:
            add(z, ONE, change)
    else:
        for s in range(new.size):
            new[s] = z[s] + change[s]
        activate(layer.kind, layer.a, layer.b, new, change)
        if mode == COMMIT:
            z[:] = new
            new[:] = change
        for s in range(change.size):
            change[s] -= h[s]
        if mode == COMMIT:
            h[:] = new


@compiled
def propagate(net: Net, block: int, moved: Changes, first: int, stop: int, mode: int) -> int:
    """Leave the changes of the outputs under changes ``first`` to ``stop`` in scratch; return their first row.

    Output c has changed only where ``net.flags[row + c]`` is set. LINEAR gives the first-order change; COMMIT
    writes z and h of the block too (theta is the caller's).
    """
    rows, scratch, flags, theta = net.data[block], net.scratch, net.flags, net.theta
    here, after, live, only = 0, net.half, 0, 0  # rows of changed inputs and outputs; how many inputs; one of them
    for number in range(net.layers.size):
        layer = net.layers[number]
        for j in range(layer.outputs):
            flags[after + j] = live > 0
            if live == 1:
                scaled(scratch[after + j], theta[layer.weight + j * layer.inputs + only], scratch[here + only])
        if live > 1:
            scratch[after : after + layer.outputs] = ZERO
            product(
                scratch, after, layer.outputs, theta, layer.weight, layer.inputs, 1, scratch, here, layer.inputs
            )
        for c in range(first, stop):
            if moved.layer[c] == number:
                j, i = moved.row[c], moved.column[c]
                change, d = scratch[after + j], moved.value[c] - theta[moved.place[c]]
                if flags[after + j]:
                    add(change, d, input_row(net, rows, layer, i))
                else:
                    scaled(change, d, input_row(net, rows, layer, i))
                    flags[after + j] = 1
                if live > 0 and i >= 0 and flags[here + i] and mode != LINEAR:
                    add(change, d, scratch[here + i])
        live = 0
        for j in range(layer.outputs):
            if flags[after + j]:
                respond(net, rows, layer, j, scratch[after + j], mode)
                live += 1
                only = j
        if live > 1:
            for j in range(layer.outputs):
                if not flags[after + j]:
                    scratch[after + j][:] = ZERO
        here, after = after, here
    return here


@compiled
def likelihood(w: Row, growth: Row, linear: Row) -> Any:
    """Weighted sum of log(1 + growth) - linear, and how many samples float32 cannot resolve: 1 + growth near 0."""
    result, poor = ZERO, ZERO
    for s in range(w.size):
        result += w[s] * (log1p(growth[s]) - linear[s])
        poor += ZERO if growth[s] > NEAR else ONE
    return result, poor


@compiled
def block_change(net: Net, block: int, here: int) -> Any:
    """Change of a block's weighted loss under the output changes that `propagate` left."""
    rows, scratch, flags = net.data[block], net.scratch, net.flags
    w, result = rows[net.sample], ZERO
    if net.loss == CROSS_ENTROPY:
        growth, linear, widest = scratch[2 * net.half], scratch[2 * net.half + 1], ZERO
        growth[:] = ZERO
        linear[:] = ZERO
        for c in range(net.classes):
            if flags[here + c]:
                widest = max(widest, largest(scratch[here + c]))
        poor = ONE
        if widest < THIRTY:
            for c in range(net.classes):
                if flags[here + c]:
                    q, p, y = scratch[here + c], rows[net.softmax + c], rows[net.target + c]
                    for s in range(w.size):
                        growth[s] += p[s] * expm1(q[s])
                        linear[s] += y[s] * q[s]
            result, poor = likelihood(w, growth, linear)
        if poor > ZERO:
            spare = net.half - here
            before = cross_entropy(net, rows, rows, net.output, scratch, spare)
            for c in range(net.classes):
                if flags[here + c]:
                    add(scratch[here + c], ONE, rows[net.output + c])
                else:
                    scratch[here + c][:] = rows[net.output + c]
            result = cross_entropy(net, rows, scratch, here, scratch, spare) - before
        return result
    for c in range(net.classes):
        if flags[here + c]:
            result += elementwise(net, w, rows[net.output + c], rows[net.target + c], ONE, scratch[here + c])
    return result


@compiled
def elementwise(net: Net, w: Row, o: Row, y: Row, d: np.float32, x: Row) -> Any:
    """Change of one output's weighted mse or hinge under a change d x of the output."""
    result = ZERO
    if net.loss == MSE:
        for s in range(w.size):
            result += w[s] * (d * x[s]) * (TWO * (o[s] - y[s]) + d * x[s])
    else:
        for s in range(w.size):
            a = net.margin - y[s] * o[s] * net.inverse
            b = max(a - y[s] * x[s] * (d * net.inverse), ZERO)
            a = max(a, ZERO)
            result += w[s] * (b - a) * (b + a)
    return result


@compiled
def change_output(net: Net, moved: Changes, c: int) -> Any:
    """Exact change of J under a change of one weight into an output; and how many samples it could not resolve."""
    layer, j = net.layers[net.layers.size - 1], moved.row[c]
    d = moved.value[c] - net.theta[moved.place[c]]
    result, poor = 0.0, ZERO
    for block in range(net.data.shape[0]):
        rows = net.data[block]
        w, x, y = rows[net.sample], input_row(net, rows, layer, moved.column[c]), rows[net.target + j]
        if net.loss != CROSS_ENTROPY:
            result += elementwise(net, w, rows[net.output + j], y, d, x)
        elif abs(d) * largest(x) < THIRTY:
            p, part = rows[net.softmax + j], ZERO
            for s in range(w.size):
                growth = p[s] * expm1(d * x[s])
                part += w[s] * (log1p(growth) - y[s] * (d * x[s]))
                poor += ZERO if growth > NEAR else ONE
            result += part
        else:
            poor = ONE
    return result, poor


@compiled
def change_hidden(net: Net, moved: Changes, c: int) -> Any:
    """The same for one weight into the last layer but one, with cross-entropy."""
    last, layer, j = net.layers[net.layers.size - 1], net.layers[net.layers.size - 2], moved.row[c]
    d = moved.value[c] - net.theta[moved.place[c]]
    outgoing, width, widest = last.weight + j, last.inputs, ZERO  # W_cj stands at outgoing + c width
    for k in range(net.classes):
        widest = max(widest, abs(net.theta[outgoing + k * width]))
    new, dh, growth = net.scratch[0], net.scratch[1], net.scratch[2]
    result = 0.0
    for block in range(net.data.shape[0]):
        rows = net.data[block]
        x, z, h = input_row(net, rows, layer, moved.column[c]), rows[layer.z + j], rows[layer.h + j]
        if layer.kind == LEAKY:
            for s in range(dh.size):
                t = z[s] + d * x[s]
                dh[s] = (t if t > ZERO else layer.a * t) - h[s]
        else:
            for s in range(dh.size):
                new[s] = z[s] + d * x[s]
            activate(layer.kind, layer.a, layer.b, new, dh)
            for s in range(dh.size):
                dh[s] -= h[s]
        if not widest * largest(dh) < THIRTY:
            return 0.0, ONE
        growth[:] = ZERO
        for k in range(0, net.classes - 1, 2):
            p, q = rows[net.softmax + k], rows[net.softmax + k + 1]
            u, v = net.theta[outgoing + k * width], net.theta[outgoing + (k + 1) * width]
            for s in range(dh.size):
                growth[s] += p[s] * expm1(u * dh[s]) + q[s] * expm1(v * dh[s])
        if net.classes % 2:
            p, u = rows[net.softmax + net.classes - 1], net.theta[outgoing + (net.classes - 1) * width]
            for s in range(dh.size):
                growth[s] += p[s] * expm1(u * dh[s])
        linear = rows[net.linear + j]
        for s in range(dh.size):
            new[s] = linear[s] * dh[s]
        part, poor = likelihood(rows[net.sample], growth, new)
        if poor > ZERO:
            return 0.0, ONE
        result += part
    return result, ZERO


@compiled
def change(net: Net, moved: Changes, first: int, stop: int) -> float:
    """Give the exact change of J under changes ``first`` to ``stop`` made together."""
    result, poor, last = 0.0, ZERO, net.layers.size - 1
    number = moved.layer[first] if stop == first + 1 else -1
    if net.layers[last].kind == IDENTITY:
        if number == last:
            result, poor = change_output(net, moved, first)
            if poor == ZERO:
                return result
        elif number >= 0 and number == last - 1 and net.loss == CROSS_ENTROPY:
            result, poor = change_hidden(net, moved, first)
            if poor == ZERO:
                return result
    result = 0.0
    for block in range(net.data.shape[0]):
        result += block_change(net, block, propagate(net, block, moved, first, stop, EXACT))
    return result


@compiled
def commit(net: Net, moved: Changes, first: int, stop: int) -> float:
    """Make changes ``first`` to ``stop``; return the new J."""
    result, last = 0.0, net.layers.size - 1
    for block in range(net.data.shape[0]):
        rows = net.data[block]
        propagate(net, block, moved, first, stop, COMMIT)
        result += block_loss(net, rows)
        if net.linear >= 0:
            for c in range(first, stop):
                if moved.layer[c] == last and moved.column[c] >= 0:
                    d = moved.value[c] - net.theta[moved.place[c]]
                    add(rows[net.linear + moved.column[c]], d, rows[net.target + moved.row[c]])
    for c in range(first, stop):
        net.theta[moved.place[c]] = moved.value[c]
    return result


@compiled
def changes(net: Net, moved: Changes, start: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    """Write the exact change of J under each move alone."""
    for k in range(out.size):
        out[k] = change(net, moved, start[k], start[k + 1])


@compiled
def accepts(delta: float, temperature: float, uniform: float) -> bool:
    """Metropolis: improvements, and rises with probability e^(-delta / T)."""
    if delta < 0.0:
        return True
    return temperature > 0.0 and delta < 700.0 * temperature and uniform < math.exp(-delta / temperature)


@compiled
def metropolis(
    net: Net, moved: Changes, start: NDArray[np.int64], temperature: float, uniforms: NDArray[np.float64],
    accepted: NDArray[np.bool_], value: float,
) -> float:  # fmt: skip
    """Take the moves in order, accept by Metropolis, commit at once; return J."""
    for k in range(accepted.size):
        delta = change(net, moved, start[k], start[k + 1])
        accepted[k] = accepts(delta, temperature, uniforms[k])
        if accepted[k]:
            value = commit(net, moved, start[k], start[k + 1])
    return value


@compiled
def factors(
    net: Net, moved: Changes, start: NDArray[np.int64], mode: int, out: NDArray[np.float32]
) -> None:
    """Write sqrt(w H) u_k, with u_k the change of the outputs under move k and H the loss's Hessian by them.

    ``out`` is (m, blocks, classes, B). For cross-entropy H = diag p - p p', so row c is sqrt(p_c) (u_c - p.u).
    """
    for block in range(net.data.shape[0]):
        rows = net.data[block]
        w, mean = rows[net.sample], net.scratch[2 * net.half]
        for k in range(start.size - 1):
            here = propagate(net, block, moved, start[k], start[k + 1], mode)
            mean[:] = ZERO
            if net.loss == CROSS_ENTROPY:
                for c in range(net.classes):
                    u, p = net.scratch[here + c], rows[net.softmax + c]
                    if net.flags[here + c]:
                        for s in range(w.size):
                            mean[s] += p[s] * u[s]
            for c in range(net.classes):
                v, u, y, o = out[k, block, c], net.scratch[here + c], rows[net.target + c], rows[net.output + c]
                if not net.flags[here + c]:
                    u[:] = ZERO
                if net.loss == CROSS_ENTROPY:
                    p = rows[net.softmax + c]
                    for s in range(w.size):
                        v[s] = np.sqrt(w[s] * p[s]) * (u[s] - mean[s])
                elif net.loss == MSE:
                    for s in range(w.size):
                        v[s] = np.sqrt(TWO * w[s]) * u[s]
                else:
                    for s in range(w.size):
                        active = ONE if net.margin > y[s] * o[s] * net.inverse else ZERO
                        v[s] = np.sqrt(TWO * w[s]) * net.inverse * y[s] * active * u[s]
