"""Rows of a matrix, or layers of a model, worked on by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch

from qanneal_opt.threads import run

__all__ = ["in_threads", "side_by_side"]

T = TypeVar("T")


def in_threads(work: Callable[[int, int], object], rows: int, piece: int, threads: int) -> None:
    """Call compiled ``work(low, high)`` for pieces of at most ``piece`` rows, in at most ``threads`` threads.

    Pieces do not depend on the number of threads, so neither does the result. Keep BLAS out of ``work``: it has
    threads of its own.
    """
    pieces = [partial(work, low, min(low + piece, rows)) for low in range(0, rows, piece)]
    for _ in run(pieces, threads):
        pass


def side_by_side(jobs: Sequence[Callable[[], T]], threads: int) -> Iterator[T]:
    """Call all jobs, so many at a time, BLAS with one thread for each; give what they return in their order.

    The rows of a layer that G couples are searched one after the other: no second thread can help within it.

    >>> list(side_by_side([lambda: 1, lambda: 2, lambda: 3], 2))
    [1, 2, 3]
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from run(jobs, threads, lambda: torch.set_num_threads(1))
    finally:
        torch.set_num_threads(before)
