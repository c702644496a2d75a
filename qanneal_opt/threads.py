"""Jobs of compiled code, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def run(
    jobs: Sequence[Callable[[], T]], threads: int | None = None, first: Callable[[], Any] | None = None
) -> Iterator[T]:
    """Call all jobs in threads, and give what they return in their order.

    Where one raises, or where nobody asks for more (an interrupt), no other job is begun.

    Args:
        jobs: they let go of Python's lock, or threads gain nothing.
        threads: at most so many at a time; ``None`` for :func:`torch.get_num_threads`.
        first: called in each new thread before its first job.

    >>> list(run([lambda: 1, lambda: 2, lambda: 3], 2))
    [1, 2, 3]
    """
    threads = min(torch.get_num_threads() if threads is None else threads, len(jobs))
    if threads < 2:
        for job in jobs:
            yield job()
        return
    pool = ThreadPoolExecutor(threads, initializer=first)
    try:
        yield from pool.map(lambda job: job(), jobs)
    finally:
        pool.shutdown(cancel_futures=True)
