"""Iterated tabu search for a low minimum of one hard problem."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from qanneal_opt.samplers.checked import Answer, CheckedSeat
from qanneal_opt.samplers.layout import Dense, aligned
from qanneal_opt.samplers.request import Request, derived_seeds

__all__ = ["Tabu"]

Array = np.ndarray[Any, Any]

_MOVES = 1000
_CHUNK = 50_000_000  # numbers that are worked on between two looks at the clock: 5 to 30 ms
_ENDLESS = 2**62


class Tabu(CheckedSeat):
    r"""Flips the best bit that was not flipped lately, again and again, and starts over from elite states.

    With :math:`\Delta_k = (1 - 2 b_k)(l_k + \sum_j Q_{kj} b_j)`, each step flips the bit of least
    :math:`\Delta_k` among those that are not barred, uphill too, and bars it for n/100 + 10 to n/100 + 19 steps
    (fewer if n < 40). When
    ``patience`` steps found nothing better, the search goes on from one of the best states found so far after
    a perturbation (Palubeckis, "Iterated tabu search for the unconstrained binary quadratic optimization
    problem", Informatica 17, 2006: up to n/10 flips, each drawn from the 5 best), or from a random mixture of two.

    A step costs one pass over a row of the matrix, for sparse problems too. Fields are
    float32, energies are computed from the Qubo in float64. It minimises, and knows no temperature.

    Args:
        moves: flips a variable in each read; by default 1000, or any number within a ``time_limit``.
        time_limit: seconds for the reads of one problem together. Such reads cannot be reproduced.
        patience: steps without improvement after which the search starts over.
        elites: states that are kept to start from.

    >>> from qanneal_opt.qubo import Qubo
    >>> Tabu().sample_arrays(Qubo([-1.0, 2.0], [[0.0, 5.0], [5.0, 0.0]]), seed=0).bits.tolist()
    [[1, 0]]
    """

    name = "tabu"
    draws_at_temperature = False

    def __init__(
        self, *, moves: int | None = None, time_limit: float | None = None, patience: int = 10_000, elites: int = 8
    ) -> None:
        for name, given in (("moves", moves), ("patience", patience), ("elites", elites)):
            if given is not None and not (isinstance(given, int) and given >= 1):
                raise ValueError(f"Invalid {name}: {given}; must be an integer from 1")
        if time_limit is not None and not time_limit > 0:
            raise ValueError(f"Invalid time_limit: {time_limit}; must be positive seconds or None")
        self.moves = _MOVES if moves is None and time_limit is None else moves
        self.time_limit = time_limit
        self.patience = patience
        self.elites = elites

    @property
    def parameters(self) -> Mapping[str, Any]:
        """``num_reads``, ``seed`` and ``initial_states``."""
        return {"num_reads": [], "seed": [], "initial_states": []}

    def _answers(self, request: Request) -> list[Answer]:
        return [self._reads(request.problem(i)) for i in range(request.problems)]

    def _reads(self, request: Request) -> Answer:
        dense = Dense.of(request.qubo)
        given = np.zeros((0, request.qubo.n), np.uint8) if request.start is None else request.start[0]
        until = None if self.time_limit is None else time.monotonic() + self.time_limit
        states, flips = np.empty((request.reads, request.qubo.n), np.uint8), 0
        for r, seed in enumerate(derived_seeds(request.seeds[0], request.reads)):
            start = given[r] if r < len(given) else np.random.default_rng(seed).integers(0, 2, request.qubo.n, np.uint8)
            # of the time that is left, each read to come gets the same share
            end = None if until is None else time.monotonic() + (until - time.monotonic()) / (request.reads - r)
            states[r], done = self._search(dense, start, seed, end)
            flips += done
        return states, {"flips": flips}

    def _search(self, dense: Dense, start: Array, seed: int, end: float | None) -> tuple[Array, int]:
        """The best state of one read, ``(n,)``, and how many flips it took."""
        from qanneal_opt.samplers.kernels_tabu import search

        n, width = dense.rows.shape[1:]
        elites, energies = np.zeros((self.elites, n), np.uint8), np.full(self.elites, np.inf)
        elites[0] = start
        space, counter, done = aligned((3, width)), np.uint64(seed << 32), 0
        total = _ENDLESS if self.moves is None else self.moves * n
        while done < total and (end is None or not done or time.monotonic() < end):
            # between the calls Python sees interrupts
            flips = min(_CHUNK // width, total - done)
            tenure, spread = min(n // 100 + 10, n // 4), min(10, n // 4 + 1)
            count, counter = search(
                dense.linear[0], dense.rows[0], elites, energies, counter, flips, self.patience, tenure, spread, space
            )
            done, counter = done + count, np.uint64(counter)
        return elites[energies.argmin()], done
