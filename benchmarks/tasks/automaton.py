"""A hidden automaton of 8 states, from 400 labelled strings; tested on longer ones.

What is measured, and the contenders, are those of `benchmarks.automata`.
"""

from benchmarks import automata

NAME = "automaton"
BASELINE = "gru"
METRIC = "test accuracy"
TUNING_SEEDS = automata.TUNING_SEEDS
CONTENDERS = automata.contenders(400, 0.0, hidden=32, lr=0.01, decay=0.1)
