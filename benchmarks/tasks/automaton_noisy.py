"""A hidden automaton of 8 states, from 800 labelled strings, 10% of them flipped; tested on longer ones."""

from benchmarks import automata

NAME = "automaton_noisy"
BASELINE = "gru"
METRIC = "test accuracy"
TUNING_SEEDS = automata.TUNING_SEEDS
CONTENDERS = automata.contenders(800, 0.1, hidden=32, lr=0.01, decay=0.1)
