"""A DNF of 5 terms of 3 literals, 30 inputs, from 400 samples of which 10% have a flipped label."""

from functools import partial

from benchmarks import rules
from benchmarks.covering import Pruning
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.soft_rules import Soft

NAME = "rules_noisy"
BASELINE = "adamw_rules"
METRIC = "test accuracy"
TUNING_SEEDS = rules.TUNING_SEEDS
SOFT, THROUGH = Soft(0.1, 0.2, hard=False), Soft(0.003, 0.02, hard=True)
NET = L1Setting("relu", 64, lr=0.003, l1=3e-3, weight_decay=0.1, batch=100)
PRUNING = Pruning(10)
make = partial(rules.disjunction, n=30, count=5, order=3, samples=400, flipped=0.1)
tune = partial(rules.tuning, make)
CONTENDERS = rules.contenders(make, SOFT, THROUGH, NET, PRUNING)
