"""Which of 8 measurements counts depends on three others: all by unknown thresholds, 60 inputs, 1000 samples.

The task `mixed_thresholds` with more distractors and longer searches. Solved: a test accuracy of 0.97.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks import mixed
from benchmarks.regimes import regimes
from benchmarks.tasks.mixed_thresholds import BASELINE, METRIC, NET, SOFT, TUNING_SEEDS

__all__ = ["BASELINE", "CONTENDERS", "METRIC", "NAME", "TUNING_SEEDS", "tune"]

NAME = "mixed_thresholds_60"
make = partial(regimes, n=60, samples=1000, wires=3)
TASK = mixed.Mixed(make, mixed.over_thresholds, enough=0.97, seconds=12.0)
FINER = mixed.Mixed(make, partial(mixed.over_thresholds, thresholds=7), enough=0.97, seconds=12.0)


def tune() -> Iterator[dict[str, Any]]:
    """Gradients alone on the same model."""
    return mixed.tuning(TASK)


CONTENDERS = mixed.contenders(TASK, FINER, mixed.Alternation(every=20, moves=100_000), SOFT, NET)
