"""Binary perceptron as in `perceptron`, at the harder load of 0.7 patterns a weight (the limit is 0.83)."""

from collections.abc import Iterator
from typing import Any

from benchmarks.baselines.binary_perceptron import Setting
from benchmarks.tasks import perceptron

NAME = "perceptron_07"
BASELINE = perceptron.BASELINE
METRIC = perceptron.METRIC
TUNING_SEEDS = perceptron.TUNING_SEEDS
LOAD = 0.7
SETTING = Setting(lr=0.1, batch=16, margin=0.2, squared=True, adaptive=False, epochs=400)


def tune() -> Iterator[dict[str, Any]]:
    """The straight-through baseline at this load."""
    return perceptron.tuning_rows(LOAD)


CONTENDERS = perceptron.contenders(LOAD, SETTING)
