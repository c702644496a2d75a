"""Compiled Gauss-Newton matrix of J over moves: C_kl = sum_s w_s u_k' H_s u_l, u_k the change of the outputs."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.simd import ONE, ZERO, Row, at, compiled, dot, entry, fill, floats, ints, scalar, scaled
from qanneal_opt.steps.kernels_change import unit_change
from qanneal_opt.steps.kernels_forward import block_rows, nth_layer
from qanneal_opt.steps.kernels_propagate import input_row, nth_change, propagate
from qanneal_opt.steps.net import CROSS_ENTROPY
from qanneal_opt.steps.rows import net_of

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
ROOT_TWO = np.float32(2**0.5)


@entry
def factors(address: int, changes: int, start: Ints, mode: int, out: Floats) -> None:
    """Write sqrt(w H) u_k, with u_k the change of the outputs under move k and H the loss's Hessian by them.

    ``out`` is (m, blocks, classes, length), flat for each m. For cross-entropy H = diag p - p p', its root is
    sqrt(p_c) (u_c - p.u).
    """
    net = net_of(address)
    n, classes = net.length, net.classes
    mean = at(floats(net.scratch), 2 * net.half * n)
    for block in range(net.blocks):
        rows = block_rows(net, block)
        w = at(rows, net.sample * n)
        for k in range(start.size - 1):
            here = propagate(net, block, changes, start[k], start[k + 1], mode)
            changed = at(floats(net.scratch), here * n)
            fill(mean, ZERO, n)
            for c in range(classes):
                u, p = at(changed, c * n), at(rows, (net.softmax + c) * n)
                if ints(net.flags)[here + c] == 0:
                    fill(u, ZERO, n)
                elif net.loss == CROSS_ENTROPY:
                    for s in range(n):
                        mean[s] += p[s] * u[s]
            first = at(floats(out.ctypes.data), (k * net.blocks + block) * classes * n)
            for c in range(classes):
                v, u = at(first, c * n), at(changed, c * n)
                if net.loss == CROSS_ENTROPY:
                    p = at(rows, (net.softmax + c) * n)
                    for s in range(n):
                        v[s] = np.sqrt(w[s] * p[s]) * (u[s] - mean[s])
                else:
                    r, slope = at(rows, (net.residual + c) * n), at(rows, (net.slope + c) * n)
                    for s in range(n):
                        v[s] = (ROOT_TWO * slope[s] if r[s] > net.floor else ZERO) * u[s]


@scalar
def component(net: Any, change: Any, c: int) -> Any:
    """Give output c of the direction in which a change of one weight moves the outputs."""
    last = nth_layer(net, net.depth - 1)
    if change.layer < net.depth - 1:
        return floats(net.theta)[last.weight + c * last.inputs + change.row]
    return ONE if change.row == c else ZERO


@compiled
def mean(net: Any, rows: Row, change: Any, out: Row) -> None:
    """Write p.t, with t the direction of a change."""
    n = net.length
    fill(out, ZERO, n)
    for c in range(net.classes):
        x, p = component(net, change, c), at(rows, (net.softmax + c) * n)
        if x != ZERO:
            for s in range(n):
                out[s] += x * p[s]


@compiled
def curvature(net: Any, rows: Row, left: Any, right: Any, one: Row, two: Row, out: Row) -> None:
    """Write w (sum_c p_c s_c t_c - (p.s) (p.t)) for the directions s and t of two changes, whose means are given."""
    n, w = net.length, at(rows, net.sample * net.length)
    fill(out, ZERO, n)
    for c in range(net.classes):
        xy, p = component(net, left, c) * component(net, right, c), at(rows, (net.softmax + c) * n)
        if xy != ZERO:  # changes of outputs move one class each
            for s in range(n):
                out[s] += xy * p[s]
    for s in range(n):
        out[s] = w[s] * (out[s] - one[s] * two[s])


@entry
def couplings(address: int, changes: int, order: Ints, begin: Ints, room: Floats, out: NDArray[np.float64]) -> None:
    """Add up C over single weights of the last two layers, for cross-entropy.

    Such a change moves the outputs by a_k(s) t_k with a direction t_k that is the same for all samples. Changes
    ``order[begin[g] : begin[g + 1]]`` share theirs. ``room``: (m + groups + 2, length); ``out``: (m, m), upper half by
    ``order``, zero at first.
    """
    net = net_of(address)
    n, units = net.length, floats(room.ctypes.data)
    means, spare = at(units, order.size * n), at(units, (order.size + begin.size - 1) * n)
    for block in range(net.blocks):
        rows = block_rows(net, block)
        for k in range(order.size):
            change = nth_change(changes, order[k])
            d = change.value - floats(net.theta)[change.place]
            layer, a = nth_layer(net, change.layer), at(units, k * n)
            x = input_row(net, rows, layer, change.column)
            if change.layer < net.depth - 1:
                unit_change(net, rows, layer, change.row, d, x, spare, a)
            else:
                scaled(a, d, x, n)
        for g in range(begin.size - 1):
            mean(net, rows, nth_change(changes, order[begin[g]]), at(means, g * n))
        for g in range(begin.size - 1):
            left, one = nth_change(changes, order[begin[g]]), at(means, g * n)
            for h in range(g, begin.size - 1):
                q, row, right = spare, at(spare, n), nth_change(changes, order[begin[h]])
                curvature(net, rows, left, right, one, at(means, h * n), q)
                for k in range(begin[g], begin[g + 1]):
                    a = at(units, k * n)
                    for s in range(n):
                        row[s] = a[s] * q[s]
                    for m in range(max(k, begin[h]), begin[h + 1]):
                        out[order[k], order[m]] += dot(row, at(units, m * n), n)
