"""What the commands share: errors of usage, progress bars, optional packages."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class UsageError(Exception):
    """Input that the command cannot use; told in one line."""


def need(module: str, extra: str = "bench") -> Any:
    """Import an optional module, or tell which extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} is not installed: pip install 'qanneal-opt[{extra}]'") from error


def progress(items: Iterable[T], label: str, *, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Go through ``items`` under a progress bar; without one where standard error is no terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield from items
        return
    yield from tqdm(items, desc=label, total=total, leave=False, disable=True if quiet else None)


def table(rows: list[list[str]], header: list[str]) -> str:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )
