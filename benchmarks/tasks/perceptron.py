"""Binary perceptron, N = 501 weights +-1, random patterns and labels, 0.6 patterns a weight, 0.4 s of CPU.

loss: share of training patterns that are wrong; metric: share that is right; solved: none is wrong;
ge: passes over all patterns. The task file of another load has only numbers of its own (`perceptron_07`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from benchmarks.baselines import belief_propagation
from benchmarks.baselines.binary_perceptron import Setting, train
from benchmarks.data import random_patterns
from benchmarks.tuning import Round, search

NAME = "perceptron"
BASELINE = "straight_through"
METRIC = "training accuracy"
TUNING_SEEDS = range(1000, 1010)
SIZE, LOAD = 501, 0.6
BUDGET = 0.4  # CPU seconds of a contender that does not solve the instance
SETTING = Setting(lr=0.01, batch=4, margin=0.2, squared=True, adaptive=True, epochs=100)
DECAYS = (0.97, 0.99, 0.995, 0.998, 0.999)


def measured(patterns: np.ndarray, labels: np.ndarray, weights: np.ndarray, passes: float) -> dict[str, Any]:
    """What a contender returns, from the weights +-1 `(N,)` that it found."""
    wrong = int((patterns @ weights * labels <= 0).sum())
    share = wrong / len(labels)
    return {"solved": wrong == 0, "loss": share, "metric": 1 - share, "ge": passes}


def straight_through(seed: int, load: float, setting: Setting) -> dict[str, Any]:
    """Restarts of straight-through training until solved or `BUDGET` is used."""
    patterns, labels = random_patterns(seed, SIZE, load)
    weights, _, epochs = train(patterns, labels, setting, budget=BUDGET, seed=seed)
    return measured(patterns, labels, weights, epochs)


def reinforced_bp(seed: int, load: float) -> dict[str, Any]:
    """The specialised algorithm; an iteration is two products with the patterns, as a gradient is."""
    patterns, labels = random_patterns(seed, SIZE, load)
    weights, _, iterations = belief_propagation.solve(patterns, labels, decays=DECAYS, seed=seed)
    return measured(patterns, labels, weights, iterations)


def contenders(load: float, setting: Setting) -> dict[str, Callable[[int], dict[str, Any]]]:
    """All contenders at `load` patterns a weight, with the baseline's setting for it."""
    return {
        "straight_through": lambda seed: straight_through(seed, load, setting),
        "rbp": lambda seed: reinforced_bp(seed, load),
    }


def tuning_rows(load: float) -> Iterator[dict[str, Any]]:
    """Most instances solved, then fewest errors, on the tuning seeds."""

    def run(setting: Setting, seed: int) -> dict[str, Any]:
        return straight_through(seed, load, setting)

    def grid(_: Sequence[Setting]) -> list[Setting]:
        rules = ((1e-3, True), (1e-2, True), (1e-2, False), (1e-1, False))
        axes = product(rules, (1, 16, 512), (0.0, 0.2), (False, True))
        return [
            Setting(lr, batch, margin, squared, adaptive, epochs=400)
            for (lr, adaptive), batch, margin, squared in axes
        ]

    def neighbours(best: Sequence[Setting]) -> list[Setting]:
        near = list(best)
        for one in best:
            near += [replace(one, lr=round(one.lr * factor, 6)) for factor in (0.3, 3.0)]
            near += [replace(one, epochs=epochs) for epochs in (100, 1500)]
            near += [replace(one, margin=one.margin + 0.1), replace(one, clip=1.0), replace(one, batch=4)]
        return near

    rounds = [
        Round(grid, run, TUNING_SEEDS[:3], keep=4),
        Round(neighbours, run, TUNING_SEEDS[:5], keep=2),
        Round(neighbours, run, TUNING_SEEDS, keep=1),
    ]
    return search(rounds, lambda row: (-row["solved"], row["loss"]))


def tune() -> Iterator[dict[str, Any]]:
    """The straight-through baseline at this load."""
    return tuning_rows(LOAD)


CONTENDERS = contenders(LOAD, SETTING)
