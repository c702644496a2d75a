"""A sum of 10 weighted conjunctions of 3 literals, 30 inputs, from 300 samples with real outputs."""

from collections.abc import Iterator
from typing import Any

from benchmarks import rules
from benchmarks.soft_rules import Soft

NAME = "rules_weighted"
BASELINE = "adamw_rules"
METRIC = "variance explained on fresh samples"
TUNING_SEEDS = rules.TUNING_SEEDS
SOFT, THROUGH = Soft(0.03, 0.1, hard=False), Soft(0.03, 0.1, hard=True)


def tune() -> Iterator[dict[str, Any]]:
    """Both gradient controls on the same class of rules."""
    yield from rules.tuning(rules.weighted, hard=False)
    yield from rules.tuning(rules.weighted, hard=True)


CONTENDERS = rules.contenders(rules.weighted, SOFT, THROUGH, None)
