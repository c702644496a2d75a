"""The command of a measurement beside the tasks: seeds go in, rows go to a file, a table is printed."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.rows import Row, write


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that all of them have, for the module `benchmarks.NAME` with this docstring."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(doc or "").splitlines()[0])
    made.add_argument("--seeds", default="0:5", metavar="START:STOP")
    made.add_argument("--output", type=Path, metavar="FILE", help="write JSON lines")
    return made


def show(rows: Sequence[Row], table: Callable[[Sequence[Row]], str], output: Path | None) -> None:
    """Write the rows, if there is a file for them, and print their table."""
    if output:
        write(output, rows)
    print(table(rows))
