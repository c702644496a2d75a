"""Real handwritten digits, 64-6-10 ReLU, weights of both layers binary with one scale a row.

loss: mean cross-entropy over all training data; metric: test accuracy; solved: test accuracy of at least .90;
ge: gradients of the whole training set (1437 samples).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from benchmarks.baselines.straight_through import REFIT_STEPS, Setting, train
from benchmarks.data import digits
from benchmarks.tuning import Round, search

NAME = "digits_binary"
BASELINE = "straight_through"
METRIC = "test accuracy"
TUNING_SEEDS = range(1000, 1010)
HIDDEN = (6,)
BUDGET = 3.0  # CPU seconds of the baseline: at least what the alternation takes
SETTING = Setting(lr=3e-3, batch=64, restarts=16, clip=1.0, chain=True)


def straight_through(
    seed: int, setting: Setting, *, hidden: Sequence[int] = HIDDEN, budget: float = BUDGET, smoothing: float = 0.0,
    target: float = 0.90,
) -> dict[str, Any]:
    """Train the straight-through baseline of any `hidden` sizes for `budget` CPU seconds and measure it."""
    split = digits(seed)
    net = train(split, hidden, setting, budget=budget, seed=seed, smoothing=smoothing)
    accuracy = float((net.logits(split.test_inputs).argmax(1) == split.test_targets).mean())
    passes = net.steps * setting.batch / len(split.train_targets) + setting.restarts * REFIT_STEPS
    return {"solved": accuracy >= target, "loss": net.loss, "metric": accuracy, "ge": passes}


def tuning_rows(
    key: Callable[[dict[str, float]], float], run: Callable[..., dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Three rounds of halving over learning rate, batch, clip, gradient of the scale, decay and restarts."""

    def evaluate(setting: Setting, seed: int) -> dict[str, float]:
        return run(seed, setting)

    grid = [
        Setting(lr=lr, batch=batch, restarts=8, clip=clip, chain=chain)
        for lr, batch, clip, chain in product((1e-3, 3e-3, 1e-2), (32, 64, 256), (0.0, 1.0), (False, True))
    ]

    def spread(best: Sequence[Setting]) -> list[Setting]:
        return [replace(setting, restarts=restarts) for setting in best for restarts in (4, 8, 16, 32)]

    def polish(best: Sequence[Setting]) -> list[Setting]:
        first = best[0]
        near = [replace(first, lr=first.lr * factor) for factor in (0.6, 1.6)]
        return [*best, *near, replace(first, decay=0.01)]

    rounds = [
        Round(lambda _: grid, TUNING_SEEDS[:2], keep=4),
        Round(spread, TUNING_SEEDS[:3], keep=3),
        Round(polish, TUNING_SEEDS, keep=1),
    ]
    return search(rounds, evaluate, key)


def tune() -> Iterator[dict[str, Any]]:
    """Lowest training loss on the tuning seeds."""
    return tuning_rows(lambda row: row["loss"], straight_through)


CONTENDERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "straight_through": lambda seed: straight_through(seed, SETTING),
}
