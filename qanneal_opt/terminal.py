"""What is shown on a terminal: progress bars and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], label: str, *, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Go through ``items`` under a progress bar; without one where standard error is no terminal.

    >>> list(progress("ab", "letters"))
    ['a', 'b']
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield from items
        return
    yield from tqdm(items, desc=label, total=total, leave=False, disable=True if quiet else None)


def table(rows: list[list[str]], header: list[str]) -> str:
    """Align columns: the first to the left, the others to the right.

    >>> print(table([["a", "1"], ["b", "10"]], ["name", "n"]))
    name   n
    ----  --
    a      1
    b     10
    """
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )
