"""Restarts of the annealing of conjunctions: bit-packed samples, chains in threads, the best by the exact energy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qanneal_opt import threads

Array = np.ndarray[Any, Any]

FLOOR = 1e-3  # of the variance of real targets: what is below it is as good as exact
PIECES = 50  # temperatures of a chain


@dataclass(frozen=True, eq=False)
class Rows:
    """Boolean samples, bit-packed: memory is samples, in whole blocks of 512, times columns / 8.

    Attributes:
        columns: (n, W) uint64, those that are not the same for all samples, and those in use.
        kept: (n,) which of the given columns they are.
        valid: (W,) uint64, the samples.
        count: how many samples there are.
    """

    columns: Array
    kept: Array
    valid: Array
    count: int

    @staticmethod
    def of(values: Array, used: Array) -> Rows:
        """Pack (N, n) bool; ``used`` (n,) bool. Where all is constant, the first column can still say so."""
        kept = np.flatnonzero(used | (values.any(0) & ~values.all(0)))
        kept = kept if len(kept) else np.zeros(1, np.int64)
        return Rows(packed(values[:, kept].T), kept, packed(np.ones(len(values), bool)), len(values))

    def truth(self, literals: Array) -> Array:
        """For which samples each conjunction of (K, n) literals holds: (K, N) bool."""
        held = np.zeros((len(literals), len(self.valid)), np.uint64)
        for row, out in zip(literals, held):
            if row.any():
                out[:] = self.valid
            for i in np.flatnonzero(row):
                out &= self.columns[i] if row[i] > 0 else ~self.columns[i]
        return np.unpackbits(held.view(np.uint8), axis=1, count=self.count, bitorder="little").astype(bool)


def packed(bits: Array) -> Array:
    """(..., N) bool as (..., W) uint64, zero beyond the samples; W is a multiple of 8."""
    words = 8 * -(-bits.shape[-1] // 512)
    out = np.zeros((*bits.shape[:-1], 8 * words), np.uint8)
    data = np.packbits(bits, axis=-1, bitorder="little")
    out[..., : data.shape[-1]] = data
    return out.view(np.uint64)


class Readout(ABC):
    """What conjunctions are judged by."""

    gains: Array  # (N,)
    targets: Array  # (O, N)

    @abstractmethod
    def energy(self, truth: Array) -> float:
        """The energy, without price of literals, of conjunctions that hold for (K, N) bool."""

    def residuals(self, truth: Array) -> tuple[Array, Array]:
        """Coefficients (O, K) by least squares beside a bias, and residuals (O, N): none unless there are targets."""
        if not len(self.targets):
            return np.zeros((0, len(truth))), self.targets
        centred = truth.T - truth.mean(1)  # (N, K)
        coefficients = np.linalg.lstsq(centred, self.targets.T, rcond=None)[0].T
        return coefficients, self.targets - coefficients @ centred.T


class OrReadout(Readout):
    """A sample pays its gain where some conjunction holds."""

    def __init__(self, gains: Array) -> None:
        self.gains, self.targets = gains, np.zeros((0, len(gains)))

    def energy(self, truth: Array) -> float:
        """Sum of gains."""
        return float(self.gains[truth.any(0)].sum())


class LinearReadout(Readout):
    r"""(m/2) log(SSE/m + floor), with coefficients and bias by least squares, of targets of unit variance altogether.

    ``variance`` is what it was: the outputs keep their proportions, as a mean squared error has them.
    """

    def __init__(self, targets: Array) -> None:
        centred = targets - targets.mean(1, keepdims=True)
        self.variance = float(np.square(centred).mean())
        self.targets = centred / math.sqrt(self.variance or 1.0)
        self.gains = np.zeros(targets.shape[1])

    def energy(self, truth: Array) -> float:
        """Gaussian code length in nats."""
        _, residuals = self.residuals(truth)
        return 0.5 * residuals.size * math.log(float(np.square(residuals).mean()) + FLOOR)


class Found(NamedTuple):
    """Literals (K, n) of all columns, their energy with the price of literals, and what the search did."""

    literals: Array
    energy: float
    moves: int
    accepted: int


@dataclass(frozen=True)
class Search:
    """Restarts from given literals: chain r starts at the r-th, and at no literals where these end.

    Attributes:
        restarts: chains.
        moves: of each chain.
        heat: (PIECES,) temperatures, in units of the energy.
        l0: energy of a literal.
        threads: chains at once, as many as torch's by default; what is found does not depend on it.
    """

    restarts: int
    moves: int
    heat: Sequence[float]
    l0: float
    threads: int | None

    def __call__(self, rows: Rows, readout: Readout, start: Array, seed: int) -> Found:
        """The best of all chains, and of the start: by energy, then by the chain's number.

        Args:
            rows: the samples.
            readout: what conjunctions are judged by.
            start: (K, all columns) int8, where chain 0 starts.
            seed: chain r draws from it and from r.
        """
        begin = start[:, rows.kept]
        held = Found(begin, self._energy(rows, readout, begin), 0, 0)
        chain = self._chain(rows, readout, begin)
        keys = np.random.SeedSequence(seed).generate_state(self.restarts, np.uint64)
        found = list(threads.run([partial(chain, r, key) for r, key in enumerate(keys)], self.threads))
        best = min([held, *found], key=lambda one: one.energy)  # the first of equals
        literals = np.zeros_like(start)
        literals[:, rows.kept], energy = self._pruned(rows, readout, best)
        moves, accepted = sum(one.moves for one in found), sum(one.accepted for one in found)
        return Found(literals, energy, moves, accepted)

    def _pruned(self, rows: Rows, readout: Readout, found: Found) -> tuple[Array, float]:
        """Leave out conjunctions as long as that lowers the energy: moves do not see one that shares another's part."""
        literals, energy = found.literals.copy(), found.energy
        for k in range(len(literals)):
            kept = literals[k].copy()
            literals[k] = 0
            without = self._energy(rows, readout, literals) if kept.any() else energy
            if without < energy:
                energy = without
            else:
                literals[k] = kept
        return literals, energy

    def _energy(self, rows: Rows, readout: Readout, literals: Array) -> float:
        return readout.energy(rows.truth(literals)) + self.l0 * np.count_nonzero(literals)

    def _chain(self, rows: Rows, readout: Readout, begin: Array) -> Callable[[int, np.uint64], Found]:
        """What runs a chain."""
        from qanneal_opt.steps.kernels_readouts import Linear, Or
        from qanneal_opt.steps.kernels_rules import anneal
        from qanneal_opt.steps.kernels_units import Units

        (n, words), units = rows.columns.shape, len(begin)
        gains = _padded(readout.gains[None], words)[0]
        wanted, unwanted = packed(readout.gains < 0), packed(readout.gains > 0)
        limits = np.array([_limits(gains[gains < 0]), _limits(gains[gains > 0])])

        def run(number: int, key: np.uint64) -> Found:
            # Rows are contiguous, whatever numpy made of the order: another one would be compiled once more.
            literals = begin.copy() if number == 0 else np.zeros_like(begin, order="C")
            sets = np.zeros((2, units, words), np.uint64)
            listed, counts = np.zeros((units, n), np.int64), np.zeros((2, units), np.int64)
            state = Units(literals, listed, counts[0], sets[0], sets[1], counts[1])
            cover = Or(np.zeros(words, np.uint64), np.zeros(words, np.uint64), gains, wanted, unwanted, limits)
            coefficients, residuals = readout.residuals(rows.truth(literals))
            coefficients, squares = np.ascontiguousarray(coefficients), np.square(residuals).sum(1)
            sums, trial = np.zeros_like(coefficients), np.zeros((2, len(squares)))
            fit = Linear(_padded(residuals, words), coefficients, squares, sums, trial, rows.count, FLOOR)
            best, scratch = literals.copy(), np.zeros((4, words), np.uint64)
            row, order = np.zeros(n, np.int8), np.zeros(n, np.int64)
            heat = np.asarray(self.heat, np.float64)
            each = max(1, self.moves // len(heat))
            _, accepted = anneal(
                rows.columns, rows.valid, state, cover, fit, heat, each, self.l0, n, key, scratch, row, order, best
            )
            return Found(best, self._energy(rows, readout, best), each * len(heat), accepted)

        return run


def _padded(rows: Array, words: int) -> Array:
    """(R, N) as (R, 64 W) float32 with zeros."""
    return np.pad(rows.astype(np.float32), ((0, 0), (0, 64 * words - rows.shape[1])))


def _limits(gains: Array) -> tuple[float, float]:
    """The least and the largest."""
    return (float(gains.min()), float(gains.max())) if len(gains) else (0.0, 0.0)
