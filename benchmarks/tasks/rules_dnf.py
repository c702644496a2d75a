"""A DNF of 10 terms of 5 literals, 40 inputs, from 800 samples."""

from functools import partial

from benchmarks import rules
from benchmarks.covering import Pruning
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.soft_rules import Soft

NAME = "rules_dnf"
BASELINE = "adamw_rules"
METRIC = "test accuracy"
TUNING_SEEDS = rules.TUNING_SEEDS
SOFT, THROUGH = Soft(0.3, 0.02, hard=False), Soft(0.1, 0.2, hard=True)
NET = L1Setting("relu", 64, lr=0.003, l1=0.0, weight_decay=0.1, batch=100)
PRUNING = Pruning(1)
make = partial(rules.disjunction, n=40, count=10, order=5, samples=800)
tune = partial(rules.tuning, make)
CONTENDERS = rules.contenders(make, SOFT, THROUGH, NET, PRUNING)
