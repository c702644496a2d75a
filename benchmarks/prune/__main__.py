"""`python -m benchmarks.prune`: prunes, writes the records, prints the tables and draws the picture."""

import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness, measurement
from benchmarks.prune import run, table
from benchmarks.prune.contenders import CONTENDERS

QUICK = ("OBS with update", "magnitude")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prune", description=run.__doc__)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, metavar="NAME", help="; ".join(CONTENDERS))
    parser.add_argument("--densities", nargs="+", type=float, default=run.DENSITIES, metavar="D", help="kept (0.2 0.1)")
    parser.add_argument("--seeds", default="0:10", metavar="SEEDS", help="reported (0:10); from 1000 on for tuning")
    parser.add_argument("--quick", action="store_true", help="ours and two baselines on one seed: under two minutes")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON lines; the picture goes beside them")
    options = parser.parse_args(arguments)
    names = options.contenders or (QUICK if options.quick else list(CONTENDERS))
    seeds = harness.parse_seeds("0" if options.quick else options.seeds)
    # A quick run shows that all works; it never takes the place of the committed one.
    output = options.output or (None if options.quick else harness.RESULTS / "prune.jsonl")
    log = measurement.Log(output, lambda record: record["density"] in options.densities)
    for record in run.run(names, options.densities, seeds, run.TUNING_SEEDS[:1] if options.quick else run.TUNING_SEEDS):
        told = f"{record['phase']}, density {record['density']}, seed {record['seed']}, {record['contender']}"
        log.add([record], f"{told}: loss {record['loss']:.4g}")
    log.close(table.tables, table.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
