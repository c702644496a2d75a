"""Multiplexer with 3 address and 8 data bits among 19 distractors, from 400 samples.

What is measured, and the contenders, are those of `benchmarks.rules`. The task file of another number of samples has
only numbers of its own.
"""

from functools import partial

from benchmarks import rules
from benchmarks.covering import Pruning
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.soft_rules import Soft

NAME = "rules_multiplexer"
BASELINE = "adamw_rules"
METRIC = "test accuracy"
TUNING_SEEDS = rules.TUNING_SEEDS
SOFT, THROUGH = Soft(1.0, 0.2, hard=False), Soft(0.003, 0.02, hard=True)
NET = L1Setting("relu", 64, lr=0.01, l1=1e-3, weight_decay=0.0, batch=100)
PRUNING = Pruning(3)
make = partial(rules.multiplexer, samples=400)
tune = partial(rules.tuning, make)
CONTENDERS = rules.contenders(make, SOFT, THROUGH, NET, PRUNING)
