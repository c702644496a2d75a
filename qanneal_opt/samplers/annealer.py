"""Our own annealer: QUBOs, one or a batch, without a model object in between."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from qanneal_opt.checks import check_int
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import Samples
from qanneal_opt.samplers.chains import Chains, energies_of
from qanneal_opt.samplers.cooling import drawing, minimising
from qanneal_opt.samplers.dimod_door import DimodDoor
from qanneal_opt.samplers.layout import Dense, Sparse, laid_out
from qanneal_opt.samplers.request import Request, counted
from qanneal_opt.samplers.temperature import estimate_temperature

__all__ = ["Annealer"]

Array = np.ndarray[Any, Any]

_SWEEPS = 200
# To minimise a small problem many short annealings find more than a long one: so many, or fewer for more bits.
_SMALL, _SHORT, _ROUNDS, _BITS = 256, 50, 16, 2048

_TELLING = 100  # reads from which on their temperature is estimated


class Annealer(DimodDoor):
    r"""Simulated annealing of QUBOs, a ``dimod.Sampler`` that also takes a ``Qubo`` or a batch of them.

    To minimise, Metropolis sweeps with temperatures falling geometrically, then a descent to a state that no single
    flip improves. The temperatures come from the problem itself: they begin where it would freeze were its couplings
    random, and end where few flips are left even in the least coupled bits. At a temperature T,
    sweeps of single-bit draws from their conditional distributions fall to T in the first half and stay there
    in the second; what they leave is one draw from :math:`\exp(-E/T)`, up to what few sweeps cannot mix.

    Where several bits are one weight (``Qubo.word``), its bits are drawn together from their conditional
    distribution, to minimise too, and a minimum is a state that no other value of a single weight improves.

    Where few couplings are not zero a flip goes along a list of neighbours, otherwise along a row of the matrix.
    Fields are float32, the energies returned float64, computed from the problem itself. All problems of a
    batch and all reads are independent chains; which threads run them changes no sample.

    Args:
        threads: at most so many at a time, ``None`` for :func:`torch.get_num_threads`.

    >>> import dimod
    >>> Annealer().sample(dimod.BinaryQuadraticModel({"a": 1.0, "b": 0.5}, {"ab": -2.0}, 0.0, "SPIN")).first.sample
    {'a': np.int8(-1), 'b': np.int8(-1)}
    >>> Annealer().sample_arrays(Qubo([-1.0, 2.0], [[0.0, 5.0], [5.0, 0.0]]), num_reads=2).bits.tolist()
    [[1, 0], [1, 0]]
    """

    name = "annealer"
    draws_at_temperature = True

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None:
            check_int("threads", threads, 1)
        self.threads = threads

    def sample_arrays(
        self,
        qubo: Qubo,
        *,
        num_reads: int = 1,
        seed: int | None = None,
        temperature: float | None = None,
        initial_states: Any = None,
        num_sweeps: int | None = None,
        time_limit: float | None = None,
        cardinality: int | None = None,
    ) -> Samples:
        """Sample ``qubo``: low-energy states, or draws from exp(-E/T) at a temperature T.

        Args:
            qubo: one problem, or a batch. On another device than the CPU it is copied there and the samples
                are copied back; ``info["moved_from"]`` then names the device.
            num_reads: bit strings a problem.
            seed: any integer from 0; ``None``: a fresh one. No global generator is touched.
            temperature: positive, in units of the energies; ``None`` minimises.
            initial_states: ``(n,)`` or ``(S, n)``, for a batch ``(B, S, n)``: zeros and ones, S <= num_reads.
                The first S reads start there, and nothing worse is returned by a minimisation.
            num_sweeps: sweeps of one annealing. ``None``: 200; to minimise n <= 256, 50, and a read is the best
                of several annealings: 2048 / n of them, 16 at most.
            time_limit: seconds after which running chains go straight to their end and no read begins
                but the first of each problem: fewer reads may come back, and ``info["completed"]`` is False.
            cardinality: the number of ones of every state, from 0 to n; initial states must have as many. Swaps of a
                one and a zero hold it, words or not, and a minimum is one that no swap improves.
                The flips in ``info`` are swaps then. ``None``: any number.

        Returns:
            Samples, best first. ``info`` tells the sweeps, annealings, whether rows were lists of neighbours
            (``"sparse"``), flips (swaps if a cardinality is held), acceptance (of all proposals), the first and
            last temperature (of problem 0), whether all was completed, for draws without a cardinality the
            ``"temperature_estimate"`` (:func:`estimate_temperature`) of at least 100 reads, all problems of a
            batch together, and ``"seconds"`` by phase, the one part that equal seeds do not repeat.

        Raises:
            ValueError: a number, or a shape, out of its range.
            TypeError: something other than a Qubo.
        """
        begun = time.perf_counter()
        request = Request.of(qubo, num_reads, seed, temperature, initial_states, time_limit)
        ones = _held(cardinality, request)
        n, reads, heat = qubo.n, request.reads, request.temperature
        several = num_sweeps is None and heat is None and n <= _SMALL
        rounds = min(_ROUNDS, _BITS // max(n, 1)) if several else 1
        default = _SHORT if several else _SWEEPS
        sweeps = default if num_sweeps is None else counted(num_sweeps, "num_sweeps")
        info: dict[str, Any] = {"sampler": self.name, "temperature": heat, "sweeps": sweeps, "annealings": rounds}
        if ones is not None:
            info["cardinality"] = ones
        if qubo.linear.device.type != "cpu":
            info["moved_from"] = str(qubo.linear.device)
        states = np.zeros((request.problems, reads * rounds, n), np.uint8)
        if not states.size:
            return _samples(request, states[:, :reads], np.zeros((request.problems, reads)), info)
        word = qubo.word if ones is None else 1
        layout = laid_out(qubo) if ones is None and word == 1 else Dense.of(qubo)
        if heat is None:
            temperatures = minimising(layout, sweeps, word=word, fields=ones is None)
        else:
            temperatures = drawing(layout, heat, sweeps)
        given = 0
        if request.start is not None:
            given = request.start.shape[1]
            states[:, :given] = request.start
        keys = np.array(request.seeds, np.uint64)
        chains = Chains(layout, temperatures, keys, given, states, ones=ones, word=word, draws=heat is not None)
        prepared = time.perf_counter()
        chains.run(torch.get_num_threads() if self.threads is None else self.threads, request.time_limit)
        annealed = time.perf_counter()
        energies = chains.energies
        flips, ran = int(chains.tally[:-1].sum()), int(np.isfinite(energies).sum()) if chains.cut else energies.size
        info |= {
            "sparse": isinstance(layout, Sparse),
            "flips": flips,
            "acceptance": min(flips / (ran * sweeps * n), 1.0),
            "temperatures": [float(temperatures[0, k] * layout.unit[0]) for k in (0, -1)],
            "completed": not chains.cut,
        }
        if rounds > 1:
            states, energies = _best_of_rounds(states, energies, reads)
        if chains.cut:
            states, energies = _finished(states, energies)
        if request.start is not None and heat is None:  # a minimum is no worse than where it started
            states = np.concatenate([states, request.start], 1)
            energies = np.concatenate([energies, energies_of(layout, request.start)], 1)
        samples = _samples(request, states, energies, info)
        if heat is not None and ones is None and samples.energies.numel() >= _TELLING:
            info["temperature_estimate"] = estimate_temperature(qubo, samples.bits)
        ended = time.perf_counter()
        info["seconds"] = {
            "prepare": prepared - begun,
            "anneal": annealed - prepared,
            "energies": ended - annealed,
        }
        return samples


def _held(cardinality: Any, request: Request) -> int | None:
    """``cardinality`` as an int that fits the problem and its initial states, or ``None``."""
    if cardinality is None:
        return None
    n, start = request.qubo.n, request.start
    if isinstance(cardinality, bool) or not isinstance(cardinality, (int, np.integer)) or not 0 <= cardinality <= n:
        raise ValueError(f"Invalid cardinality: {cardinality!r}; must be an int from 0 to {n}, or None")
    if start is not None and (start.sum(-1, dtype=np.int64) != cardinality).any():
        raise ValueError(f"Invalid initial_states: another number of ones than cardinality, {cardinality}")
    return int(cardinality)


def _best_of_rounds(states: Array, energies: Array, reads: int) -> tuple[Array, Array]:
    """Of chains r, r + reads, r + 2 reads, ... the best, for each read r."""
    best = energies.reshape(len(energies), -1, reads).argmin(1)  # (B, reads)
    return _taken(states, energies, best * reads + np.arange(reads))


def _finished(states: Array, energies: Array) -> tuple[Array, Array]:
    """The chains that came to their end, as many for each problem."""
    cut = np.isinf(energies)
    least = energies.shape[1] - int(cut.sum(1).max())
    return _taken(states, energies, np.argsort(cut, axis=1, kind="stable")[:, :least])


def _samples(request: Request, states: Array, energies: Array, info: dict[str, Any]) -> Samples:
    """What comes back of states (B, C, n) and their energies (B, C) without offset."""
    qubo = request.qubo
    if energies.shape[1] > 1:
        order = np.argsort(energies, axis=1, kind="stable")[:, : request.reads]
        states, energies = _taken(states, energies, order)
    info["reads_returned"] = energies.shape[1]
    if qubo.batch is None:
        states, energies = states[0], energies[0]
    device, offset = qubo.linear.device, qubo.offset
    energies = energies + (offset.cpu().numpy()[:, None] if isinstance(offset, torch.Tensor) else offset)
    return Samples(torch.from_numpy(states).to(device), torch.from_numpy(energies).to(device), info)


def _taken(states: Array, energies: Array, chains: Array) -> tuple[Array, Array]:
    """Of each problem the states and energies with the numbers ``chains`` (B, K)."""
    problem = np.arange(len(states))[:, None]
    return states[problem, chains], energies[problem, chains]
