"""Binary perceptron as in `perceptron`, at the harder load of 0.7 patterns a weight (the limit is 0.83)."""

from collections.abc import Iterator
from typing import Any

from benchmarks.tasks import perceptron
from qanneal_opt.demo.contenders import TASKS

NAME = "perceptron_07"
BASELINE = perceptron.BASELINE
METRIC = perceptron.METRIC
TUNING_SEEDS = perceptron.TUNING_SEEDS
LOAD = 0.7


def tune() -> Iterator[dict[str, Any]]:
    """The straight-through baseline at this load."""
    return perceptron.tuning_rows(LOAD)


CONTENDERS = TASKS[NAME]
