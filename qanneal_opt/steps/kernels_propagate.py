"""Compiled propagation of moves: the changes of all outputs when some weights change at once.

For one weight W_ji of layer l by d: dh_j = act(z_j + d h_i) - h_j, dz of the next layer is W[:, j] dh_j, and
so on to the outputs. Only units that change are carried on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.simd import ONE, ZERO, Row, add, at, compiled, fill, floats, ints, scalar, scaled
from qanneal_opt.steps.kernels_forward import UNIT, block_rows, nth_layer, product
from qanneal_opt.steps.net import CHANGE, IDENTITY
from qanneal_opt.steps.rows import activate, change_of, descend

EXACT: Any = np.int64(0)
LINEAR: Any = np.int64(1)
COMMIT: Any = np.int64(2)
RECORD = CHANGE.itemsize


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
def propagate(net: Any, block: int, changes: int, first: int, stop: int, mode: int) -> Any:
    """Leave the changes of the outputs under changes ``first`` to ``stop`` in scratch; return their row.

    Output c has changed only where the flag of that row + c is set. LINEAR gives the first-order change;
    COMMIT writes z and h of the block too (theta is the caller's).
    """
    n, rows, theta = net.length, block_rows(net, block), floats(net.theta)
    scratch, flags = floats(net.scratch), ints(net.flags)
    here: Any = np.int64(0)  # scratch row of the changed inputs,
    after: Any = net.half  # and of the changed outputs
    live, only = 0, 0  # how many inputs have changed, and the last of them
    for number in range(net.depth):
        layer = nth_layer(net, number)
        inputs, outputs, weight = layer.inputs, layer.outputs, layer.weight
        for j in range(outputs):
            flags[after + j] = 1 if live > 0 else 0
            if live == 1:
                source = at(scratch, (here + only) * n)
                scaled(at(scratch, (after + j) * n), theta[weight + j * inputs + only], source, n)
        if live > 1:
            out, source = at(scratch, after * n), at(scratch, here * n)
            fill(out, ZERO, outputs * n)
            product(out, outputs, at(theta, weight), inputs, UNIT, source, inputs, n)
        for k in range(first, stop):
            change = nth_change(changes, k)
            if change.layer == number:
                j, i, d = change.row, change.column, change.value - theta[change.place]
                out = at(scratch, (after + j) * n)
                if flags[after + j] == 0:
                    fill(out, ZERO, n)
                    flags[after + j] = 1
                add(out, d, input_row(net, rows, layer, i), n)
                if live > 0 and i >= 0 and mode == EXACT and flags[here + i] != 0:
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
