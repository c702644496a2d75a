"""Compiled loops over moves: Metropolis over a list, and uniform sweeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.rng import GOLDEN, below, uniform
from qanneal_opt.simd import entry, log, scalar
from qanneal_opt.steps.kernels_change import change_of_loss, commit
from qanneal_opt.steps.kernels_forward import ALWAYS, loss_of_outputs, nth_layer, synchronize
from qanneal_opt.steps.kernels_propagate import nth_change
from qanneal_opt.steps.rows import net_of

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

DRIFT = 512  # commits between two full forward passes: float32 sums of z are then still right to 1e-6


@entry
def locate(address: int, slots: Ints, slot: Ints, index: Ints, value: Floats, changes: int) -> bool:
    """Fill ``changes`` from parameters ``slot``, flat indices and new values; False if one lies outside.

    ``slots`` (parameters, 2): the layer, and whether the parameter is its bias.
    """
    net = net_of(address)
    for k in range(slot.size):
        if not 0 <= slot[k] < slots.shape[0]:
            return False
        number, is_bias = slots[slot[k], 0], slots[slot[k], 1] != 0
        layer, change, i = nth_layer(net, number), nth_change(changes, k), index[k]
        if not 0 <= i < (layer.outputs if is_bias else layer.outputs * layer.inputs):
            return False
        change.layer = number
        change.row = i if is_bias else i // layer.inputs
        change.column = -1 if is_bias else i % layer.inputs
        change.place = i + (layer.bias if is_bias else layer.weight)
        change.value = value[k]
    return True


@scalar
def accepts(delta: float, temperature: float, uniform: float) -> bool:
    """Metropolis: improvements, and rises with probability e^(-delta / T): those less than T times an exponential.

    It is one comparison, since a processor guesses a rare acceptance right and loses no time on it.
    """
    return bool(delta < -temperature * log(np.float32(uniform)))


@entry
def run(
    address: int, changes: int, start: Ints, temperatures: Doubles, uniforms: Doubles, deltas: Doubles,
    accepted: NDArray[np.bool_], value: float,
) -> float:  # fmt: skip
    """Evaluate moves in order, each at its temperature and the weights of that moment; return J.

    Those that Metropolis accepts are made at once: none at T = -inf; at T = inf all, without being evaluated.
    """
    net, drifted = net_of(address), 0
    for k in range(accepted.size):
        accepted[k] = True
        if temperatures[k] < math.inf:
            deltas[k] = change_of_loss(net, changes, start[k], start[k + 1])
            accepted[k] = accepts(deltas[k], temperatures[k], uniforms[k])
        if accepted[k]:
            value = commit(net, changes, start[k], start[k + 1], value + deltas[k], temperatures[k] < math.inf)
            drifted += 1
            if drifted == DRIFT:
                value, drifted = synchronize(address), 0
    return loss_of_outputs(net) if drifted > 0 else value


@entry
def sweep(
    address: int, changes: int, owner: Ints, scale: Floats, levels: Floats, kinds: Ints, codes: Ints,
    best: Ints, temperatures: Doubles, seed: np.uint64, value: float,
) -> Any:  # fmt: skip
    """Sweep over n weights once a temperature; return J, the best J at a sweep's end, moves tried and made.

    Weight k stands in ``changes``, belongs to ``owner[k]`` and is ``levels[owner, code] * scale[k]``.
    """
    net, counter, best_value = net_of(address), seed, value
    proposed, accepted, drifted, at_best = 0, 0, 0, True
    order = np.empty(codes.size, np.int64)
    for k in range(codes.size):
        order[k] = k
        best[k] = codes[k]
    for t in range(temperatures.size):
        for k in range(codes.size):
            counter += GOLDEN
            place = k + below(counter, codes.size - k)
            order[k], order[place] = order[place], order[k]
        for k in range(codes.size):
            w = order[k]
            kind, target = kinds[owner[w]], 1 - codes[w]
            if kind < 2:
                continue
            if kind > 2:
                counter += GOLDEN
                target = below(counter, kind - 1)
                target += 1 if target >= codes[w] else 0
            nth_change(changes, w).value = levels[owner[w], target] * scale[w]
            delta = change_of_loss(net, changes, w, w + 1)
            counter += GOLDEN
            proposed += 1
            if accepts(delta, temperatures[t], uniform(counter)):
                value = commit(net, changes, w, w + 1, value + delta, ALWAYS)
                codes[w] = target
                accepted += 1
                drifted += 1
                at_best = False
        if drifted >= DRIFT:
            value, drifted = synchronize(address), 0
        elif not at_best:
            value = loss_of_outputs(net)
        if value < best_value:
            best_value, at_best = value, True
            for k in range(codes.size):
                best[k] = codes[k]
    return value, best_value, proposed, accepted
