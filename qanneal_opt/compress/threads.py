"""Rows of a matrix worked on by several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["in_threads"]

_PIECE = 16  # rows: they share what a kernel reads of H while it is in the cache


def in_threads(work: Callable[[int, int], None], rows: int, threads: int) -> None:
    """Call ``work(low, high)`` for pieces of at most 16 rows, in at most ``threads`` threads; compiled code only.

    Pieces do not depend on the number of threads, so neither does the result. Keep BLAS out of ``work``: it has
    threads of its own.
    """
    pieces = [(low, min(low + _PIECE, rows)) for low in range(0, rows, _PIECE)]
    if threads == 1 or len(pieces) < 2:
        for piece in pieces:
            work(*piece)
        return
    with ThreadPoolExecutor(min(threads, len(pieces))) as pool:
        for _ in pool.map(lambda piece: work(*piece), pieces):
            pass
