"""A linear score of 5 inputs, and of rules over unknown thresholds of 20 others, from 1000 samples.

The rules say which of 8 measurements counts by three others; a label is the sign of the sum. What is measured, and the
contenders, are those of `benchmarks.mixed`. Solved: a test accuracy of 0.93.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks import mixed
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.regimes import regimes

NAME = "mixed_linear"
BASELINE = "gradients"
METRIC = "test accuracy"
TUNING_SEEDS = mixed.TUNING_SEEDS
SOFT = mixed.Soft(0.05, 0.03, hard="thresholds")
NET = L1Setting("relu", 64, lr=0.01, l1=3e-3, weight_decay=0.1, batch=100)
make = partial(regimes, n=20, samples=1000, wires=3, linear=5)
TASK = mixed.Mixed(make, partial(mixed.over_thresholds, linear=5), enough=0.93)


def tune() -> Iterator[dict[str, Any]]:
    """Gradients alone on the same model, and the network."""
    return mixed.tuning(TASK)


CONTENDERS = mixed.contenders(TASK, None, mixed.Alternation(), SOFT, NET)
