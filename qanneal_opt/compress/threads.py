"""Rows of a matrix worked on by several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["in_threads"]


def in_threads(work: Callable[[int, int], object], rows: int, piece: int, threads: int) -> None:
    """Call compiled ``work(low, high)`` for pieces of at most ``piece`` rows, in at most ``threads`` threads.

    Pieces do not depend on the number of threads, so neither does the result. Keep BLAS out of ``work``: it has
    threads of its own.
    """
    pieces = [(low, min(low + piece, rows)) for low in range(0, rows, piece)]
    if threads == 1 or len(pieces) < 2:
        for low, high in pieces:
            work(low, high)
        return
    with ThreadPoolExecutor(min(threads, len(pieces))) as pool:
        for _ in pool.map(lambda ends: work(*ends), pieces):
            pass
