"""Iterated tabu search for a low minimum of one hard problem."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import Samples, best_first
from qanneal_opt.samplers.dimod_door import DimodDoor
from qanneal_opt.samplers.layout import Dense, aligned
from qanneal_opt.samplers.request import Request, counted, derived_seeds

__all__ = ["Tabu"]

Array = np.ndarray[Any, Any]

_MOVES = 1000
_WORK = 5_000_000  # numbers worked on, after which a round is the last before a look at the clock: milliseconds,
_LONGEST = 100  # and so many times more after which it is cut short
_FLIP = 64  # what a flip costs beside its row, in numbers
_ENDLESS = 2**62


class Tabu(DimodDoor):
    r"""Flips the best bit that was not flipped lately, again and again, and starts over from elite states.

    With :math:`\Delta_k = (1 - 2 b_k)(l_k + \sum_j Q_{kj} b_j)`, each step flips the bit of least
    :math:`\Delta_k` among those that are not barred, uphill too, and bars it for n/100 + 10 to n/100 + 19 steps
    (fewer if n < 40). When
    ``patience`` steps found nothing better, the search goes on from one of the best states found so far after
    a perturbation (Palubeckis, "Iterated tabu search for the unconstrained binary quadratic optimization
    problem", Informatica 17, 2006: up to n/10 flips, each drawn from the 5 best), or from a random mixture of two.

    A step costs one pass over a row of the matrix, for sparse problems too. Fields are
    float32, energies are computed from the Qubo in float64. It minimises, and knows no temperature. It is a
    ``dimod.Sampler`` that also takes a ``Qubo`` or a batch of them, whose problems it solves one after the other.

    Args:
        moves: flips a variable in each read. ``None``: 1000, or as many as a ``time_limit`` allows.
        patience: steps without improvement after which the search starts over.
        elites: states that are kept to start from.

    >>> Tabu().sample_arrays(Qubo([-1.0, 2.0], [[0.0, 5.0], [5.0, 0.0]]), seed=0).bits.tolist()
    [[1, 0]]
    """

    name = "tabu"
    draws_at_temperature = False

    def __init__(self, *, moves: int | None = None, patience: int = 10_000, elites: int = 8) -> None:
        self.moves = None if moves is None else counted(moves, "moves")
        self.patience = counted(patience, "patience")
        self.elites = counted(elites, "elites")

    def sample_arrays(
        self,
        qubo: Qubo,
        *,
        num_reads: int = 1,
        seed: int | None = None,
        temperature: float | None = None,
        initial_states: Any = None,
        time_limit: float | None = None,
    ) -> Samples:
        """Find low-energy states of ``qubo``.

        Args:
            qubo: one problem, or a batch. On another device than the CPU it is copied there and the samples
                are copied back; ``info["moved_from"]`` then names the device.
            num_reads: searches a problem, each of which gives a state.
            seed: any integer from 0; ``None``: a fresh one. No global generator is touched.
            temperature: not honoured, and ``info["temperature"]`` is ``None``.
            initial_states: as everywhere; the first searches start there.
            time_limit: seconds, of which each search gets an equal share. Such samples cannot be reproduced.

        Returns:
            Samples, best first. ``info`` tells the flips, the rounds (starts over, the first ones included), whether
            no time limit cut ``moves`` short (``"completed"``), and ``"seconds"`` by phase, the one part that equal
            seeds do not repeat.

        Raises:
            ValueError: a number, or a shape, out of its range.
            TypeError: something other than a Qubo.
        """
        request = Request.of(qubo, num_reads, seed, temperature, initial_states, time_limit)
        info: dict[str, Any] = {"sampler": self.name, "temperature": None}
        if qubo.linear.device.type != "cpu":
            info["moved_from"] = str(qubo.linear.device)
        states, told = self._searches(request)
        ended = time.perf_counter()
        bits = torch.from_numpy(states if qubo.batch is not None else states[0]).to(qubo.linear.device)
        bits, energies = best_first(qubo, bits, request.reads, request.start)
        told["seconds"]["energies"] = time.perf_counter() - ended
        return Samples(bits, energies, info | {"reads_returned": request.reads} | told)

    def _searches(self, request: Request) -> tuple[Array, dict[str, Any]]:
        """The states ``(B, R, n)`` of all reads, and what they took."""
        n, count = request.qubo.n, request.problems * request.reads
        states = np.zeros((request.problems, request.reads, n), np.uint8)
        flips, rounds, completed, seconds = 0, 0, True, {"prepare": 0.0, "search": 0.0}
        until = None if request.time_limit is None else time.perf_counter() + request.time_limit
        for i in range(request.problems if n else 0):
            begun = time.perf_counter()
            dense, given = Dense.of(request.qubo.problem(i)), 0
            if request.start is not None:
                given = request.start.shape[1]
                states[i, :given] = request.start[i]
            prepared = time.perf_counter()
            for r, seed in enumerate(derived_seeds(request.seeds[i], request.reads)):
                if r >= given:
                    states[i, r] = np.random.default_rng(seed).integers(0, 2, n, np.uint8)
                now = time.perf_counter()
                end = None if until is None else now + (until - now) / (count - i * request.reads - r)
                states[i, r], done, turns, whole = self._search(dense, states[i, r], seed, end)
                flips, rounds, completed = flips + done, rounds + turns, completed and whole
            seconds["prepare"] += prepared - begun
            seconds["search"] += time.perf_counter() - prepared
        return states, {"flips": flips, "rounds": rounds, "completed": completed, "seconds": seconds}

    def _search(self, dense: Dense, start: Array, seed: int, end: float | None) -> tuple[Array, int, int, bool]:
        """The best state of one read, ``(n,)``, its flips and rounds, and whether it came to its end."""
        from qanneal_opt.samplers.kernels_tabu import search

        n, width = dense.rows.shape[1:]
        elites, energies = np.zeros((self.elites, n), np.uint8), np.full(self.elites, np.inf)
        elites[0] = start
        space, counter, done, rounds = aligned((3, width)), np.uint64(seed << 32), 0, 0
        moves = self.moves if self.moves is not None else _MOVES if end is None else None
        total = _ENDLESS if moves is None else moves * n
        piece, tenure, spread = _WORK // (width + _FLIP) + 1, min(n // 100 + 10, n // 4), min(10, n // 4 + 1)
        while done < total and (end is None or not done or time.perf_counter() < end):
            left = total - done
            count, turns, counter = search(
                dense.linear[0], dense.rows[0], elites, energies, counter, min(piece, left),
                min(_LONGEST * piece, left), self.patience, tenure, spread, space,
            )  # fmt: skip
            done, rounds, counter = done + count, rounds + turns, np.uint64(counter)
        return elites[energies.argmin()], done, rounds, moves is None or done >= total
