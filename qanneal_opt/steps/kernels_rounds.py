"""Compiled rounds of annealing: gradient-ranked proposals, Metropolis, and a refit of what is continuous."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qanneal_opt.rng import GOLDEN, gumbel, uniform
from qanneal_opt.simd import ONE, ZERO, Row, at, compiled, entry, fill, floats
from qanneal_opt.steps.kernels_backward import backward, train
from qanneal_opt.steps.kernels_change import change_of_loss, commit
from qanneal_opt.steps.kernels_forward import ALWAYS, synchronize
from qanneal_opt.steps.kernels_moves import Doubles, Floats, Ints, accepts
from qanneal_opt.steps.kernels_propagate import nth_change
from qanneal_opt.steps.rows import net_of


@compiled
def sift(scores: Floats, picked: Ints, size: int) -> None:
    """Let the root of a heap with the largest score on top sink to its place."""
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and scores[picked[child + 1]] > scores[picked[child]]:
            child += 1
        if scores[picked[child]] <= scores[picked[at]]:
            break
        picked[at], picked[child] = picked[child], picked[at]
        at = child


@compiled
def best_first(scores: Floats, picked: Ints) -> int:
    """Write the places of the least finite scores, ascending, as many as there is room; return how many."""
    size, room = 0, picked.size
    for k in range(scores.size):
        if not scores[k] < math.inf:
            continue
        if size < room:
            picked[size] = k
            size += 1
            at = size - 1
            while at > 0 and scores[picked[(at - 1) // 2]] < scores[picked[at]]:
                picked[at], picked[(at - 1) // 2] = picked[(at - 1) // 2], picked[at]
                at = (at - 1) // 2
        elif scores[k] < scores[picked[0]]:
            picked[0] = k
            sift(scores, picked, size)
    for rest in range(size - 1, 0, -1):
        picked[0], picked[rest] = picked[rest], picked[0]
        sift(scores, picked, rest)
    return size


@compiled
def rank(
    gradient: Row, changes: int, places: Any, levels: Floats, kinds: Ints, codes: Ints, targets: Ints,
    scores: Floats, temperature: float, counter: np.uint64,
) -> None:  # fmt: skip
    """Score every weight's best other level by slope times displacement - T Gumbel; write it to ``targets``.

    Up to three levels each other one is tried, of more the two neighbours.
    """
    heat = np.float32(temperature)
    for k in range(codes.size):
        owner, kind, code = places[k].owner, kinds[places[k].owner], codes[k]
        slope, scale = gradient[nth_change(changes, k).place], places[k].scale
        scores[k] = np.float32(math.inf)
        for shift in range(1, min(kind, 3)):
            target = (code + shift) % kind
            if kind > 3:
                target = code + 1 if shift == 1 else code - 1
                if not 0 <= target < kind:
                    continue
            score = slope * ((levels[owner, target] - levels[owner, code]) * scale)
            if temperature > 0.0:
                counter += GOLDEN
                score -= heat * gumbel(counter)
            if score < scores[k]:
                scores[k], targets[k] = score, target


@compiled
def take_codes(fitted: Any, places: Any, levels: Floats, codes: Ints) -> None:
    """Write for the refit what a trained scale multiplies, or the weight where the scale is fixed."""
    theta = floats(fitted.theta)
    for k in range(codes.size):
        scale = ONE if places[k].unknown >= 0 else places[k].scale
        theta[places[k].sign] = levels[places[k].owner, codes[k]] * scale


@compiled
def take_fitted(net: Any, fitted: Any, changes: int, places: Any, levels: Floats, codes: Ints, copies: Ints) -> None:
    """Write the weights of the present codes, refitted scales and refitted continuous parameters."""
    theta, source = floats(net.theta), floats(fitted.theta)
    for k in range(codes.size):
        if places[k].unknown >= 0:
            places[k].scale = source[places[k].unknown]
        theta[nth_change(changes, k).place] = levels[places[k].owner, codes[k]] * places[k].scale
    for k in range(copies.shape[0]):
        for i in range(copies[k, 2]):
            theta[copies[k, 1] + i] = source[copies[k, 0] + i]


@entry
def rounds(
    address: int, fitted: int, changes: int, places: Any, levels: Floats, kinds: Ints, codes: Ints, copies: Ints,
    heat: Doubles, steps: int, gradient: Floats, slopes: Floats, mean: Floats, square: Floats, parts: Ints,
    lr: float, beta1: float, beta2: float, eps: float, seed: np.uint64, value: float, best_value: float,
    best_codes: Ints, best: Floats,
) -> Any:  # fmt: skip
    """Anneal ``heat.shape[0]`` rounds of ``heat.shape[1]`` proposals, each followed by ``steps`` of Adam.

    Weight k stands in ``changes`` and ``places`` and is ``levels[owner, code] * scale``. ``fitted`` is the network
    of the refit; its unknowns stand at the end of theta, as many as ``best`` has. ``copies`` (k, 3) says which of
    them are parameters: place there, place here, length. A refit is undone where J is not finite, and at T = 0
    where it raises J. The best state at a round's end goes to ``best_codes`` and ``best`` if it is below
    ``best_value``.

    Returns J, the best J, moves evaluated, moves made, and the change of J by moves alone.
    """
    net, counter, judged, made, gained = net_of(address), seed, 0, 0, 0.0
    unknown = at(floats(net_of(fitted).theta), slopes.size - best.size)
    before, descent = np.empty_like(best), floats(gradient.ctypes.data)
    scores, targets = np.empty(codes.size, np.float32), np.zeros(codes.size, np.int64)
    picked = np.empty(heat.shape[1], np.int64)
    for r in range(heat.shape[0]):
        fill(descent, ZERO, gradient.size)
        backward(net, descent)
        rank(descent, changes, places, levels, kinds, codes, targets, scores, heat[r, 0], counter)
        counter += GOLDEN * np.uint64(2 * codes.size)
        begun = value
        for i in range(best_first(scores, picked)):
            k = picked[i]
            nth_change(changes, k).value = levels[places[k].owner, targets[k]] * places[k].scale
            delta = change_of_loss(net, changes, k, k + 1)
            counter += GOLDEN
            judged += 1
            if accepts(delta, heat[r, i], uniform(counter)):
                value = commit(net, changes, k, k + 1, value + delta, ALWAYS)
                codes[k] = targets[k]
                made += 1
        gained += value - begun
        if steps > 0:
            for i in range(best.size):
                before[i] = unknown[i]
            take_codes(net_of(fitted), places, levels, codes)
            train(fitted, slopes, mean, square, parts, steps, lr, beta1, beta2, eps)
            for i in range(parts.shape[0]):
                parts[i, 2] += steps
            take_fitted(net, net_of(fitted), changes, places, levels, codes, copies)
            after = synchronize(address)
            if not after < math.inf or (after > value and heat[r, -1] == 0.0):
                for i in range(best.size):
                    unknown[i] = before[i]
                take_fitted(net, net_of(fitted), changes, places, levels, codes, copies)
                after = synchronize(address)
            value = after
        else:
            value = synchronize(address)
        if value < best_value:
            best_value = value
            for i in range(best.size):
                best[i] = unknown[i]
            for k in range(codes.size):
                best_codes[k] = codes[k]
    return value, best_value, judged, made, gained
