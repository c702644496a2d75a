"""Which of 8 measurements counts depends on three others: all by unknown thresholds, 40 inputs, 1000 samples.

Rules over comparisons, each input with one threshold that begins at its median; what is measured, and the contenders,
are those of `benchmarks.mixed`. Solved: a test accuracy of 0.98.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks import mixed
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.regimes import regimes

NAME = "mixed_thresholds"
BASELINE = "gradients"
METRIC = "test accuracy"
TUNING_SEEDS = mixed.TUNING_SEEDS
SOFT = mixed.Soft(0.05, 0.1, hard="thresholds")
NET = L1Setting("relu", 64, lr=0.003, l1=3e-3, weight_decay=0.1, batch=100)
make = partial(regimes, n=40, samples=1000, wires=3)
TASK = mixed.Mixed(make, mixed.over_thresholds, enough=0.98)
FINER = mixed.Mixed(make, partial(mixed.over_thresholds, thresholds=7), enough=0.98)


def tune() -> Iterator[dict[str, Any]]:
    """Gradients alone on the same model, and the network."""
    return mixed.tuning(TASK)


CONTENDERS = mixed.contenders(TASK, FINER, mixed.Alternation(), SOFT, NET)
