"""Multiplexer with 3 address and 8 data bits among 19 distractors, from 300 samples; settings are those for 400."""

from functools import partial

from benchmarks import rules
from benchmarks.tasks.rules_multiplexer import BASELINE, METRIC, NET, PRUNING, SOFT, THROUGH, TUNING_SEEDS

__all__ = ["BASELINE", "CONTENDERS", "METRIC", "NAME", "TUNING_SEEDS"]

NAME = "rules_multiplexer_300"
CONTENDERS = rules.contenders(partial(rules.multiplexer, samples=300), SOFT, THROUGH, NET, PRUNING)
