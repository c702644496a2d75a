"""`python -m benchmarks list | run | tune | all | report | compare`."""

import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness, overview, report, rows
from benchmarks.harness import BadInput
from qanneal_opt.cli.console import Parser


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks", description="Benchmarks against tuned baselines.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="tasks and their contenders")
    run = commands.add_parser("run", help="run contenders of one task, interleaved")
    run.add_argument("task")
    run.add_argument("--contender", nargs="+", metavar="NAME", help="default: all of the task")
    run.add_argument("--seeds", default="0:20", metavar="START:STOP")
    run.add_argument("--json", action="store_true", help="one JSON line a run")
    run.add_argument("--output", type=Path, metavar="FILE", help="write the JSON lines to a file as well")
    tune = commands.add_parser("tune", help="repeat the choice of a baseline's setting on tuning seeds")
    tune.add_argument("task")
    tune.add_argument("--output", type=Path, metavar="FILE", help="default: benchmarks/results/tuning_TASK.jsonl")
    everything = commands.add_parser("all", help="every task with all its contenders, to benchmarks/results")
    everything.add_argument("tasks", nargs="*", metavar="TASK")
    everything.add_argument("--seeds", default="0:20", metavar="START:STOP")
    table = commands.add_parser("report", help="tables of result files; without files, also into the README")
    table.add_argument("files", nargs="*", type=Path, metavar="FILE")
    table.add_argument("--readme", type=Path, default=harness.ROOT / "README.md")
    table.add_argument("--check", action="store_true", help="fail if the README's table is not the present one")
    compare = commands.add_parser("compare", help="two result files, paired by task, contender and seed")
    compare.add_argument("before", type=Path, metavar="FILE_A")
    compare.add_argument("after", type=Path, metavar="FILE_B")
    return parser


def _line(record: dict[str, Any]) -> str:
    keys = ("solved", "loss", "metric", "ge", "cpu_s", "wall_s")
    cells = " ".join(f"{key} {record[key]:.4g}" for key in keys)
    return f"{record['task']} {record['contender']} seed {record['seed']}: {cells}"


def _run(task: harness.Task, names: Sequence[str], seeds: Sequence[int], json_out: bool, output: Path | None) -> None:
    records = []
    for record in harness.run(task, names, seeds):
        records.append(record)
        print(json.dumps(record) if json_out else _line(record), flush=True)
    if output:
        rows.write(output, records)


def _tune(task: harness.Task, output: Path | None) -> None:
    if task.tune is None:
        raise BadInput(f"Invalid task: {task.name!r} has nothing to tune")
    tried = []
    with harness.single_thread():
        for row in task.tune():
            tried.append(row)
            print(
                " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()),
                flush=True,
            )
    rows.write(output or harness.RESULTS / f"tuning_{task.name}.jsonl", tried)


def _report(files: Sequence[Path], readme: Path, check: bool) -> int:
    records = report.read(files or report.present())
    table = report.tables(records) if files and not check else overview.readme(records)
    if not check:
        print(table)
    if files and not check:
        return 0
    try:
        old = readme.read_text()
    except OSError as error:
        raise BadInput(f"Invalid README: {readme}: {error.strerror}") from None
    new = report.insert(old, table)
    if check and new != old:
        print(f"{readme}: its table is not the one of the result files; run `python -m benchmarks report`")
        return 1
    if not check:
        readme.write_text(new)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "list":
            for name in harness.task_names():
                task = harness.load(name)
                print(f"{name}: {task.summary}\n    {', '.join(task.contenders)} (baseline: {task.baseline})")
        elif options.command == "run":
            task = harness.load(options.task)
            names = options.contender or list(task.contenders)
            _run(task, names, harness.parse_seeds(options.seeds), options.json, options.output)
        elif options.command == "tune":
            _tune(harness.load(options.task), options.output)
        elif options.command == "all":
            tasks = [harness.load(name) for name in options.tasks or harness.task_names()]
            seeds = harness.parse_seeds(options.seeds)
            for task in tasks:
                _run(task, list(task.contenders), seeds, False, harness.RESULTS / f"{task.name}.jsonl")
        elif options.command == "report":
            return _report(options.files, options.readme, options.check)
        else:
            print(report.comparison(report.read([options.before]), report.read([options.after])))
    except BadInput as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
