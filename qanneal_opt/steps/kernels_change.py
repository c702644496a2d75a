"""Compiled exact changes of J under moves of single weights.

A move leads to changes dz of the outputs (see `kernels_propagate`), and a cross-entropy with the kept softmax
p changes by mean_s log sum_c p_c e^dz_c - sum_c y_c dz_c. Weights into the last layer and into the
one before it have loops of their own, where dz is never written; all other moves take the general way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.simd import (
    LOG2E,
    ONE,
    ZERO,
    Float,
    Row,
    add,
    at,
    compiled,
    exp,
    exp2,
    fill,
    floats,
    fma,
    ints,
    largest,
    log,
    scalar,
)
from qanneal_opt.steps.kernels_forward import UNIT, block_rows, loss_for_moves, nth_layer, softmax
from qanneal_opt.steps.kernels_propagate import COMMIT, EXACT, input_row, nth_change, propagate
from qanneal_opt.steps.net import CROSS_ENTROPY, IDENTITY, LEAKY
from qanneal_opt.steps.rows import activate

# Where an output moves by more, a softmax that float32 has at least at e^-87 no longer tells all of the sum.
WIDE = np.float32(30)


@compiled
def regrow(net: Any, rows: Row, s: int, q: Row, step: int) -> Any:
    """Growth of sample s's norm when output c rises by q[c step], of any size."""
    n, o = net.length, at(rows, net.output * net.length + s)
    top, mass = o[0] + q[0], ZERO
    for c in range(1, net.classes):
        top = max(top, o[c * n] + q[c * step])
    for c in range(net.classes):
        mass += exp(o[c * n] + q[c * step] - top)
    return top + log(mass) - at(rows, net.norm * n)[s]


@compiled
def take_logarithm(net: Any, rows: Row, mass: Row) -> None:
    """Write the growth of norms, from mass = sum_c p_c e^dz_c."""
    n, growth, excess = net.length, at(rows, net.growth * net.length), at(rows, net.excess * net.length)
    for s in range(n):
        growth[s] = log(mass[s]) - excess[s]


@compiled
def likelihood(net: Any, rows: Row, linear: Row) -> Any:
    """Sum w (growth - linear) over a block."""
    n, result = net.length, ZERO
    w, growth = at(rows, net.sample * n), at(rows, net.growth * n)
    for s in range(n):
        result += w[s] * (growth[s] - linear[s])
    return result


@compiled
def squares_change(net: Any, rows: Row, c: int, d: Float, x: Row) -> Any:
    """Change of a block's sum of squares when output c changes by d x."""
    n, floor, result = net.length, net.floor, ZERO
    r, slope = at(rows, (net.residual + c) * n), at(rows, (net.slope + c) * n)
    for s in range(n):
        a, b = max(r[s], floor), max(r[s] + d * (slope[s] * x[s]), floor)
        result += (b - a) * (b + a)
    return result


@compiled
def softmax_change(net: Any, rows: Row, here: int) -> Any:
    """Change of a block's weighted cross-entropy under the output changes that `propagate` left."""
    n, flags, q = net.length, ints(net.flags), at(floats(net.scratch), here * net.length)
    linear, growth = at(floats(net.scratch), 2 * net.half * n), at(rows, net.growth * n)
    mass, widest = at(linear, n), ZERO
    fill(linear, ZERO, 2 * n)
    for c in range(net.classes):
        u, p, y = at(q, c * n), at(rows, (net.softmax + c) * n), at(rows, (net.target + c) * n)
        if flags[here + c] == 0:
            fill(u, ZERO, n)
            add(mass, ONE, p, n)
        else:
            widest = max(widest, largest(u, n))
            for s in range(n):
                mass[s] = fma(p[s], exp2(LOG2E, u[s]), mass[s])
                linear[s] += y[s] * u[s]
    take_logarithm(net, rows, mass)
    if not widest < WIDE:
        for s in range(n):
            growth[s] = regrow(net, rows, s, at(q, s), n)
    return likelihood(net, rows, linear)


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
                    result += squares_change(net, rows, c, ONE, x)
    return result


@compiled
def output_change(net: Any, layer: Any, change: Any, d: Float) -> float:
    """Give the exact change of J under a change d of one weight into an output, with cross-entropy."""
    n, j, a, result, linear = net.length, change.row, d * LOG2E, 0.0, floats(net.scratch)
    mass, q = at(linear, n), at(linear, 2 * n)
    for block in range(net.blocks):
        rows = block_rows(net, block)
        x, growth = input_row(net, rows, layer, change.column), at(rows, net.growth * n)
        fill(mass, ZERO, n)
        for c in range(net.classes):
            p = at(rows, (net.softmax + c) * n)
            if c != j:
                add(mass, ONE, p, n)
            else:
                for s in range(n):
                    mass[s] = fma(p[s], exp2(a, x[s]), mass[s])
        take_logarithm(net, rows, mass)
        if not abs(d) * largest(x, n) < WIDE:
            fill(q, ZERO, net.classes)
            for s in range(n):
                if not abs(d * x[s]) < WIDE:
                    q[j] = d * x[s]
                    growth[s] = regrow(net, rows, s, q, UNIT)
        y = at(rows, (net.target + j) * n)
        for s in range(n):
            linear[s] = y[s] * (d * x[s])
        result += likelihood(net, rows, linear)
    return result


@scalar
def residual_change(net: Any, layer: Any, change: Any, d: Float) -> float:
    """Do as `output_change` with squares."""
    result = 0.0
    for block in range(net.blocks):
        rows = block_rows(net, block)
        result += squares_change(net, rows, change.row, d, input_row(net, rows, layer, change.column))
    return result


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
def hidden_change(net: Any, last: Any, layer: Any, change: Any, d: Float) -> float:
    """Do as `output_change` for one weight into the last layer but one, with cross-entropy."""
    n, j, classes, width, result = net.length, change.row, net.classes, last.inputs, 0.0
    outgoing, widest = at(floats(net.theta), last.weight + j), ZERO  # W_cj at c width
    for c in range(classes):
        widest = max(widest, abs(outgoing[c * width]))
    dh = floats(net.scratch)
    mass, q = at(dh, n), at(dh, 2 * n)
    for block in range(net.blocks):
        rows = block_rows(net, block)
        linear, growth = at(rows, (net.linear + j) * n), at(rows, net.growth * n)
        unit_change(net, rows, layer, j, d, input_row(net, rows, layer, change.column), q, dh)
        fill(mass, ZERO, n)
        for c in range(0, classes - 1, 2):
            p, r = at(rows, (net.softmax + c) * n), at(rows, (net.softmax + c + 1) * n)
            u, v = LOG2E * outgoing[c * width], LOG2E * outgoing[(c + 1) * width]
            for s in range(n):
                mass[s] = fma(r[s], exp2(v, dh[s]), fma(p[s], exp2(u, dh[s]), mass[s]))
        if classes % 2 == 1:
            p, u = at(rows, (net.softmax + classes - 1) * n), LOG2E * outgoing[(classes - 1) * width]
            for s in range(n):
                mass[s] = fma(p[s], exp2(u, dh[s]), mass[s])
        take_logarithm(net, rows, mass)
        if not widest * largest(dh, n) < WIDE:
            for s in range(n):
                if not widest * abs(dh[s]) < WIDE:
                    for c in range(classes):
                        q[c] = outgoing[c * width] * dh[s]
                    growth[s] = regrow(net, rows, s, q, UNIT)
        for s in range(n):
            dh[s] *= linear[s]
        result += likelihood(net, rows, dh)
    return result


@scalar
def change_of_loss(net: Any, changes: int, first: int, stop: int) -> float:
    """Give the exact change of J under changes ``first`` to ``stop`` made together, the quickest way."""
    last = nth_layer(net, net.depth - 1)
    if stop == first + 1 and last.kind == IDENTITY:
        change = nth_change(changes, first)
        d = change.value - floats(net.theta)[change.place]
        if change.layer == net.depth - 1:
            if net.loss == CROSS_ENTROPY:
                return output_change(net, last, change, d)
            return residual_change(net, last, change, d)
        if change.layer == net.depth - 2 and net.loss == CROSS_ENTROPY:
            return hidden_change(net, last, nth_layer(net, change.layer), change, d)
    return general_change(net, changes, first, stop)


@compiled
def commit(net: Any, changes: int, first: int, stop: int, value: float, evaluated: bool) -> float:
    """Make changes ``first`` to ``stop``; return the new J.

    ``evaluated``: `change_of_loss` has just found that J will be ``value``, and kept the growth of norms.
    """
    result, n, theta = 0.0, net.length, floats(net.theta)
    quick = evaluated and net.loss == CROSS_ENTROPY
    for block in range(net.blocks):
        rows = block_rows(net, block)
        propagate(net, block, changes, first, stop, COMMIT)
        if quick:
            norm, growth, excess = at(rows, net.norm * n), at(rows, net.growth * n), at(rows, net.excess * n)
            for s in range(n):
                norm[s] += growth[s] + excess[s]
            softmax(net, rows)
        else:
            result += loss_for_moves(net, rows)
        for k in range(first, stop):
            change = nth_change(changes, k)
            if net.linear >= 0 and change.layer == net.depth - 1 and change.column >= 0:
                linear = at(rows, (net.linear + change.column) * n)
                add(linear, change.value - theta[change.place], at(rows, (net.target + change.row) * n), n)
    for k in range(first, stop):
        change = nth_change(changes, k)
        theta[change.place] = change.value
    return value if quick else result
