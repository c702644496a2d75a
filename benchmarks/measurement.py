"""The commands of measurements beside the tasks: rows go to a file, a table is printed, a picture drawn."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.rows import Row, read, write


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


class Log:
    """Rows that go to a file as they come, behind those that it holds of what is not measured again.

    Args:
        output: the file; None for a run that only shows that all works.
        again: whether a row that the file holds is measured again, and so left out.
    """

    def __init__(self, output: Path | None, again: Callable[[Row], bool]) -> None:
        held = read(output) if output and output.exists() else []
        self.output, self.rows = output, [row for row in held if not again(row)]

    def add(self, rows: Sequence[Row], told: str) -> None:
        """Keep rows, and say what they are of."""
        self.rows += rows
        print(told, flush=True)
        if self.output:
            write(self.output, self.rows)

    def close(self, table: Callable[[Sequence[Row]], str], plot: Callable[[Sequence[Row], Path], None]) -> None:
        """Print the table, and draw the picture beside the file."""
        print(table(self.rows))
        if self.output:
            plot(self.rows, self.output.with_suffix(".png"))
