"""`python -m benchmarks.solvers`: races, writes the records, prints the table and draws the picture."""

import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness, measurement
from benchmarks.solvers import instances, peers, race, table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers", description=race.__doc__)
    known = tuple(instances.INSTANCES)
    parser.add_argument("--instances", nargs="+", choices=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="three instances and few reads: under two minutes")
    parser.add_argument("--reads", type=int, default=100, help="reads reported (100)")
    parser.add_argument("--cap", type=float, default=3.0, help="CPU seconds of a setting's reads (3; tuning: half)")
    parser.add_argument("--mqlib", default=os.environ.get("MQLIB"), metavar="PATH", help="MQLib's program")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON lines; the picture goes beside them")
    options = parser.parse_args(arguments)
    names = options.instances or (instances.QUICK if options.quick else known)
    reads, cap = (min(options.reads, 10), min(options.cap, 1.0)) if options.quick else (options.reads, options.cap)
    # A quick race shows that all works; it never takes the place of the committed one.
    output = options.output or (None if options.quick else harness.RESULTS / "solvers.jsonl")
    with harness.single_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a bifurcation that has not converged says so each time
        solvers, absent = peers.solvers(options.mqlib)
        for line in absent:
            print(line, flush=True)
        small = instances.Instance("warm-up", instances.palubeckis(40, 50, 1))
        list(race.measure(small, [(s, s.ladder[0]) for s in solvers], 2, race.TUNING_SEED, 1.0))
        log = measurement.Log(output, lambda record: record["instance"] in names)
        for name in names:
            instance = instances.instance(name)
            raced = race.race(instance, solvers, reads=reads, cap=cap, tuning_reads=min(reads, 20), tuning_cap=cap / 2)
            log.add(raced, f"{name}: raced, best energy {raced[-1]['best']:.17g}")
    log.close(table.tables, table.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
