"""`python -m benchmarks.rule_moves`: moves a second of the annealing of rules, on one thread.

400 samples, 64 literals to choose from for each rule, 8 rules; the multiplexer's labels, and labels at random, where
more moves are accepted. Medians of `--turns` runs of a million moves, in CPU time, the first not counted.
"""

import argparse
import statistics
import time

import numpy as np

from benchmarks import harness
from benchmarks.rules import multiplexer
from qanneal_opt.steps.rule_search import PIECES, LinearReadout, OrReadout, Rows, Search

MOVES, RULES = 1_000_000, 8


def measured(turns: int) -> dict[str, list[float]]:
    """Million moves a second of CPU time, by what is annealed."""
    task = multiplexer(1000, 400, distractors=53)
    labels, values = task.targets.numpy(), task.inputs.numpy() > 0.5
    rows, random = Rows.of(values, np.zeros(values.shape[1], bool)), np.random.default_rng(0)
    readouts = {
        "or, multiplexer": OrReadout(np.where(labels > 0, -1.0, 1.0)),
        "or, random labels": OrReadout(random.choice([-1.0, 1.0], len(labels))),
        "linear, multiplexer": LinearReadout(labels[None].astype(float)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in readouts}
    start = np.zeros((RULES, values.shape[1]), np.int8)
    for turn in range(-1, turns):
        for name, readout in readouts.items():
            search = Search(1, MOVES, np.geomspace(1.0, 0.1, PIECES).tolist(), 0.4, 1)
            begun = time.process_time()
            search(rows, readout, start, max(turn, 0))
            if turn >= 0:
                speeds[name].append(MOVES / (time.process_time() - begun) / 1e6)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rule_moves")
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    with harness.single_thread():
        for name, speeds in measured(options.turns).items():
            spread = f"{min(speeds):.2f} to {max(speeds):.2f}"
            print(f"{name}: {statistics.median(speeds):.2f} M moves/s ({spread})")


if __name__ == "__main__":
    main()
