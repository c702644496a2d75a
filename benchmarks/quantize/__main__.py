"""`python -m benchmarks.quantize`: rounds, writes the records, prints the tables and draws the picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness, measurement
from benchmarks.quantize import run, table
from benchmarks.quantize.contenders import CONTENDERS
from benchmarks.quantize.subjects import SUBJECTS

QUICK = ("rtn", "gptq", "gptq + refit + bias", "ours")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantize", description=run.__doc__)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--widths", nargs="+", choices=run.WIDTHS, metavar="WIDTH", help="; ".join(run.WIDTHS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, metavar="NAME", help="; ".join(CONTENDERS))
    parser.add_argument("--calibrations", nargs="+", metavar="NAME", help="sentences, all lengths (both); digits")
    parser.add_argument("--draws", default="0:3", metavar="SEEDS", help="calibration draws; from 1000 on for tuning")
    parser.add_argument("--alone", action="store_true", help="no statistics shared: for seconds and memory")
    parser.add_argument("--quick", action="store_true", help="one draw, 3 bits, four contenders: a few minutes")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON lines; the picture goes beside them")
    options = parser.parse_args(arguments)
    draws = harness.parse_seeds("0" if options.quick else options.draws)
    names = options.contenders or (QUICK if options.quick else list(CONTENDERS))
    widths = options.widths or (["3 bits"] if options.quick else list(run.WIDTHS))
    subjects = options.subjects or list(SUBJECTS)
    # A quick run shows that all works; it never takes the place of the committed one.
    output = options.output or (None if options.quick else harness.RESULTS / "quantize.jsonl")

    def again(record: run.Record) -> bool:
        place = record["subject"] in subjects and record["width"] in widths and record["draw"] in draws
        wanted = options.calibrations is None or record["calibration"] in options.calibrations
        return place and wanted and record["contender"] in names

    log = measurement.Log(output, again)
    for subject in subjects:
        for record in run.run(subject, widths, draws, names, options.calibrations, alone=options.alone):
            log.add([record], ", ".join(map(str, (*table.panel(record), record["draw"], record["contender"]))))
    log.close(table.tables, table.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
