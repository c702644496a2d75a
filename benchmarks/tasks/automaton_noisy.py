"""A hidden automaton of 8 states, from 800 labelled strings, 10% of them flipped; tested on longer ones."""

from functools import partial

from benchmarks import automata, edsm

NAME = "automaton_noisy"
BASELINE = "gru"
METRIC = "test accuracy"
TUNING_SEEDS = automata.TUNING_SEEDS
NET, MERGE = (
    automata.Gru(hidden=64, lr=0.01, decay=1.0),
    edsm.Setting(noises=(0.01, 0.02, 0.03, 0.05, 0.07, 0.1), threshold=-6.0),
)
tune = partial(automata.tuning, 800, 0.1)
CONTENDERS = automata.contenders(800, 0.1, NET, MERGE)
