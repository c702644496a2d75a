"""Binary perceptron, N = 501 weights +-1, random patterns and labels, 0.6 patterns a weight, 0.4 s of CPU.

loss: share of training patterns that are wrong; metric: share that is right; solved: none is wrong;
ge: passes over all patterns. The task file of another load has only numbers of its own (`perceptron_07`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from benchmarks.tuning import Round, search
from qanneal_opt.demo.baselines.binary_perceptron import Setting
from qanneal_opt.demo.contenders import TASKS, straight_through_perceptron

NAME = "perceptron"
BASELINE = "straight_through"
METRIC = "training accuracy"
TUNING_SEEDS = range(1000, 1010)
LOAD = 0.6


def tuning_rows(load: float) -> Iterator[dict[str, Any]]:
    """Most instances solved, then fewest errors, on the tuning seeds."""

    def run(setting: Setting, seed: int) -> dict[str, Any]:
        return straight_through_perceptron(seed, load, setting)

    def grid(_: Sequence[Setting]) -> list[Setting]:
        rules = ((1e-3, True), (1e-2, True), (1e-2, False), (1e-1, False))
        axes = product(rules, (1, 16, 512), (0.0, 0.2), (False, True))
        return [
            Setting(lr, batch, margin, squared, adaptive, epochs=400) for (lr, adaptive), batch, margin, squared in axes
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


CONTENDERS = TASKS[NAME]
