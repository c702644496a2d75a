"""Real handwritten digits, 64-6-10 ReLU, weights of both layers binary with one scale a row.

loss: mean cross-entropy over all training data; metric: test accuracy; solved: test accuracy of at least .90;
ge: gradients of the whole training set (1437 samples). What is annealed starts from two restarts of the
baseline's own straight-through training, 1.2 CPU seconds, inside the clock.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from benchmarks.tuning import Round, search
from qanneal_opt.demo.baselines.straight_through import Setting
from qanneal_opt.demo.contenders import BUDGET, TASKS, straight_through

NAME = "digits_binary"
BASELINE = "straight_through"
METRIC = "test accuracy"
TUNING_SEEDS = range(1000, 1010)
HIDDEN = (6,)


def tuning_rows(
    grid: Sequence[Setting], key: Callable[[dict[str, float]], float], run: Callable[..., dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Halving: a grid, twice the neighbours of the best, then restarts; `run(seed, setting, budget=...)`.

    The first rounds have a third of the budget.
    """

    def third(setting: Setting, seed: int) -> dict[str, Any]:
        return run(seed, setting, budget=BUDGET / 3)

    def full(setting: Setting, seed: int) -> dict[str, Any]:
        return run(seed, setting, budget=BUDGET)

    def neighbours(best: Sequence[Setting]) -> list[Setting]:
        near = list(best)
        for one in best:
            near += [replace(one, lr=round(one.lr * factor, 6)) for factor in (0.5, 2.0)]
            near += [replace(one, clip=one.clip * factor) for factor in (0.5, 2.0)]
            near += [replace(one, batch=round(one.batch * factor)) for factor in (0.5, 2.0)]
            near += [replace(one, decay=0.01)]
        return near

    def restarts(best: Sequence[Setting]) -> list[Setting]:
        return [replace(setting, restarts=count) for setting in best for count in (2, 4, 8, 16)]

    rounds = [
        Round(lambda _: grid, third, TUNING_SEEDS[:2], keep=3),
        Round(neighbours, third, TUNING_SEEDS[:3], keep=3),
        Round(neighbours, third, TUNING_SEEDS[:4], keep=2),
        Round(restarts, full, TUNING_SEEDS[:4], keep=3),
        Round(list, full, TUNING_SEEDS[:6], keep=1),
    ]
    return search(rounds, key)


def tune() -> Iterator[dict[str, Any]]:
    """Lowest training loss on the tuning seeds."""
    axes = product((3e-3, 1e-2, 3e-2), (32, 128), (0.0, 0.3, 1.0), (False, True))
    grid = [Setting(lr, batch, 4, clip, chain) for lr, batch, clip, chain in axes]
    return tuning_rows(grid, lambda row: row["loss"], straight_through)


CONTENDERS = TASKS[NAME]
