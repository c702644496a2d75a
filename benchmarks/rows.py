"""Rows of a measurement: JSON lines in a file, and Markdown tables of them for the terminal and the pages."""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write beside the place and rename: whatever interrupts it, the file is the old one or the new one."""
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table.

    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    table = [f"| {' | '.join(line)} |" for line in (header, *lines)]
    return "\n".join([table[0], "|" + "---|" * len(header), *table[1:]])


def mean(values: Sequence[float]) -> str:
    """A mean and its standard error.

    >>> mean([1.0, 2.0, 3.0])
    '2 (0.577)'
    """
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.3g} ({error:.3g})"
