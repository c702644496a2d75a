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
def curvature(net: Any, rows: Row, left: Any, right: Any, out: Row, one: Row, two: Row) -> None:
    """Write w (sum_c p_c s_c t_c - (p.s) (p.t)) for the directions s and t of two changes."""
    n, w = net.length, at(rows, net.sample * net.length)
    fill(out, ZERO, n)
    fill(one, ZERO, n)
    fill(two, ZERO, n)
    for c in range(net.classes):
        p, x, y = at(rows, (net.softmax + c) * n), component(net, left, c), component(net, right, c)
        for s in range(n):
            one[s] += x * p[s]
            two[s] += y * p[s]
            out[s] += (x * y) * p[s]
    for s in range(n):
        out[s] = w[s] * (out[s] - one[s] * two[s])


@entry
def couplings(address: int, changes: int, order: Ints, begin: Ints, room: Floats, out: NDArray[np.float64]) -> None:
    """Add up C over single weights of the last two layers, for cross-entropy.

    Such a change moves the outputs by a_k(s) t_k with a direction t_k that is the same for all samples. Changes
    ``order[begin[g] : begin[g + 1]]`` share theirs. ``room``: (m + 4, length); ``out``: (m, m), upper half by
    ``order``, zero at first.
    """
    net = net_of(address)
    n, units = net.length, floats(room.ctypes.data)
    spare = at(units, order.size * n)
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
            left = nth_change(changes, order[begin[g]])
            for h in range(g, begin.size - 1):
                q, row = spare, at(spare, n)
                curvature(net, rows, left, nth_change(changes, order[begin[h]]), q, at(spare, 2 * n), at(spare, 3 * n))
                for k in range(begin[g], begin[g + 1]):
                    a = at(units, k * n)
                    for s in range(n):
                        row[s] = a[s] * q[s]
                    for m in range(max(k, begin[h]), begin[h + 1]):
                        out[order[k], order[m]] += dot(row, at(units, m * n), n)
