"""Runs the chains of an annealing in threads, in pieces short enough for interrupts and time limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from qanneal_opt.samplers.layout import Layout, aligned

__all__ = ["Chains", "energies_of"]

Array = np.ndarray[Any, Any]

_WORK = 50_000_000  # numbers touched between two looks at the clock and at interrupts: milliseconds
_ALONE = 2_000_000  # less work than this is not worth a second thread


class Chains:
    """Chain c is read c // B of problem c % B; its random numbers depend on that and on its problem's key.

    Args:
        layout: B problems; those with swaps or words, dense ones.
        temperatures: ``(B, S)`` float32, one a sweep.
        keys: ``(B,)`` uint64.
        given: the first so many reads start from their rows of ``states``.
        states: ``(B, R, n)`` uint8, written.
        ones: how many each state has, held by swaps; ``None`` for any number.
        word: so many bits in a row are drawn together; 1 where a number of ones is held.
        draws: leave each chain where its last sweep ends; otherwise it goes down to a local minimum.
    """

    def __init__(
        self,
        layout: Layout,
        temperatures: Array,
        keys: Array,
        given: int,
        states: Array,
        *,
        ones: int | None,
        word: int,
        draws: bool,
    ) -> None:
        self.layout, self.temperatures, self.keys = layout, temperatures, keys
        self.given, self.states, self.draws = given, states, draws
        self._kernel = _kernel(ones, word)
        self._room = 4 * layout.linear.shape[1] + (1 << word)  # of the kernel that needs most
        self.energies = np.full(states.shape[:2], np.inf)
        """Of the states, without offset; infinite where a chain did not come to its end."""
        self.tally = np.zeros(temperatures.shape[1] + 1, np.int64)
        self.cut = False  # whether the time limit left chains out, or short
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self, threads: int, time_limit: float | None) -> None:
        """Run all chains, or those that begin within the time limit."""
        until = None if time_limit is None else time.monotonic() + time_limit
        problems, reads, n = self.states.shape
        count, work = problems * reads, problems * reads * self.temperatures.shape[1] * n
        threads = min(threads, count) if work > _ALONE else 1
        size = max(1, count // (8 * threads)) if threads > 1 or until is not None else count
        pieces = iter([(low, min(low + size, count)) for low in range(0, count, size)])
        if threads == 1:
            self._work(pieces, until)
            return
        errors: list[BaseException] = []

        def work_or_tell() -> None:
            try:
                self._work(pieces, until)
            except BaseException as error:  # raised below, in the caller's thread
                self._stop.set()
                errors.append(error)

        helpers = [threading.Thread(target=work_or_tell, daemon=True) for _ in range(threads)]
        for helper in helpers:
            helper.start()
        try:
            for helper in helpers:
                helper.join()
        finally:  # an interrupt: the helpers stop at the end of what they are at
            self._stop.set()
        if errors:
            raise errors[0]

    def _work(self, pieces: Iterator[tuple[int, int]], until: float | None) -> None:
        from qanneal_opt.samplers.kernels_energies import energies

        problems = len(self.states)
        scratch = aligned((self._room,))
        tally, place, barker = np.zeros_like(self.tally), np.empty(2, np.int64), np.float32(self.draws)
        nothing, uncounted = np.empty((1, 0), np.float32), np.empty(1, np.int64)
        while True:
            with self._lock:
                low, high = next(pieces, (0, 0))
            if low == high or self._stop.is_set():
                break
            place[:] = low, -1
            while place[0] < high and not self._stop.is_set():
                late = until is not None and time.monotonic() > until
                if late and place[1] < 0 and place[0] >= problems:
                    self.cut = True
                    break
                self.cut |= late
                first = int(place[0])
                end = first + 1 if late else high
                temperatures, flips = (nothing, uncounted) if late else (self.temperatures, tally)
                self._kernel(
                    self.layout.linear, self.layout.rows, temperatures, self.keys, self.given, self.states,
                    flips, scratch, place, end, barker, not self.draws, _WORK,
                )  # fmt: skip
                energies(*self.layout.exact, self.states, first, place[0], self.energies)
        with self._lock:
            self.tally += tally


def energies_of(layout: Layout, states: Array) -> Array:
    """Energies (B, C), without offset, of states (B, C, n)."""
    from qanneal_opt.samplers.kernels_energies import energies

    out = np.empty(states.shape[:2])
    energies(*layout.exact, states, 0, out.size, out)
    return out


def _kernel(ones: int | None, word: int) -> Any:
    """The kernel that runs chains, compiled when it is first needed."""
    if ones is not None:
        from qanneal_opt.samplers.kernels_swap import anneal_swaps

        return partial(anneal_swaps, ones=ones)
    if word > 1:
        from qanneal_opt.samplers.kernels_words import anneal_words

        return partial(anneal_words, word=word)
    from qanneal_opt.samplers.kernels_anneal import anneal

    return anneal
