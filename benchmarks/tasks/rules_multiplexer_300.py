"""Multiplexer with 3 address and 8 data bits among 19 distractors, from 300 samples."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks import rules
from benchmarks.tasks.rules_multiplexer import BASELINE, METRIC, NET, SOFT, THROUGH, TUNING_SEEDS

__all__ = ["BASELINE", "CONTENDERS", "METRIC", "NAME", "TUNING_SEEDS", "tune"]

NAME = "rules_multiplexer_300"
make = partial(rules.multiplexer, samples=300)


def tune() -> Iterator[dict[str, Any]]:
    """Both gradient controls on the same class of rules."""
    yield from rules.tuning(make, hard=False)
    yield from rules.tuning(make, hard=True)


CONTENDERS = rules.contenders(make, SOFT, THROUGH, NET)
