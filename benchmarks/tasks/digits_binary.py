"""Real handwritten digits, 64-6-10 ReLU, weights of both layers binary with one scale a row.

loss: mean cross-entropy over all training data; metric: test accuracy; solved: test accuracy of at least .90;
ge: gradients of the whole training set (1437 samples).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from benchmarks.baselines.binary_net import REFIT_STEPS
from benchmarks.baselines.straight_through import Setting, train
from benchmarks.data import digits
from benchmarks.tuning import Round, search

NAME = "digits_binary"
BASELINE = "straight_through"
METRIC = "test accuracy"
TUNING_SEEDS = range(1000, 1010)
HIDDEN = (6,)
BUDGET = 3.0  # CPU seconds of the baseline: at least what the alternation takes
SETTING = Setting(lr=0.03, batch=32, restarts=8, clip=0.5, chain=True)


def straight_through(
    seed: int,
    setting: Setting,
    *,
    hidden: Sequence[int] = HIDDEN,
    budget: float = BUDGET,
    smoothing: float = 0.0,
    target: float = 0.90,
) -> dict[str, Any]:
    """Train the straight-through baseline of any `hidden` sizes for `budget` CPU seconds and measure it."""
    split = digits(seed)
    net = train(split, hidden, setting, budget=budget, seed=seed, smoothing=smoothing)
    accuracy = float((net.logits(split.test_inputs).argmax(1) == split.test_targets).mean())
    passes = net.steps * setting.batch / len(split.train_targets) + setting.restarts * REFIT_STEPS
    return {"solved": accuracy >= target, "loss": net.loss, "metric": accuracy, "ge": passes}


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


CONTENDERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "straight_through": lambda seed: straight_through(seed, SETTING),
}
