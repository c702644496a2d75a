"""A sum of 10 weighted conjunctions of 3 literals, 30 inputs, from 300 samples with real outputs."""

from functools import partial

from benchmarks import rules
from benchmarks.soft_rules import Soft

NAME = "rules_weighted"
BASELINE = "adamw_rules"
METRIC = "variance explained on fresh samples"
TUNING_SEEDS = rules.TUNING_SEEDS
SOFT, THROUGH = Soft(0.03, 0.02, hard=False), Soft(0.03, 0.2, hard=True)
tune = partial(rules.tuning, rules.weighted, net=False)
CONTENDERS = rules.contenders(rules.weighted, SOFT, THROUGH)
