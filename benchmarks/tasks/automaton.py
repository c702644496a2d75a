"""A hidden automaton of 8 states, from 400 labelled strings; tested on longer ones.

What is measured, and the contenders, are those of `benchmarks.automata`.
"""

from functools import partial

from benchmarks import automata, edsm

NAME = "automaton"
BASELINE = "gru"
METRIC = "test accuracy"
TUNING_SEEDS = automata.TUNING_SEEDS
NET, MERGE = automata.Gru(hidden=32, lr=0.01, decay=0.1), edsm.Setting(noises=(0.0,), threshold=-6.0)
tune = partial(automata.tuning, 400, 0.0)
CONTENDERS = automata.contenders(400, 0.0, NET, MERGE)
