"""Our annealer: local minima, threads, limits, what it tells."""

import threading
import time

import numpy as np
import pytest
import torch

from qanneal_opt import samplers
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer, annealer
from qanneal_opt.samplers.layout import Dense
from tests.qubos import problem


def test_minima_are_local_minima_and_float64():
    qubo = problem(200, 1)
    reads = Annealer().sample_arrays(qubo, num_reads=4, num_sweeps=30, seed=0)
    for state, energy in zip(reads.bits, reads.energies):
        flips = torch.eye(200, dtype=torch.uint8) ^ state
        assert (qubo.energies(flips) >= energy - 1e-4).all()


@pytest.mark.parametrize("temperature", [None, 20.0])
def test_threads_change_no_sample(temperature):
    qubo = problem(100, batch=6, shared=True)
    arguments = {"num_reads": 8, "num_sweeps": 100, "seed": 5, "temperature": temperature}
    one = Annealer(threads=1).sample_arrays(qubo, **arguments)
    two = Annealer(threads=2).sample_arrays(qubo, **arguments)
    assert torch.equal(one.bits, two.bits)
    assert one.info["flips"] == two.info["flips"]


def thin(n=300, batch=None):
    """Whole numbers, so that the order of a sum does not matter, and 2% of all couplings."""
    rng = np.random.default_rng(n)
    matrix = np.triu(rng.integers(-9, 10, size=(n, n) if batch is None else (batch, n, n)), 1)
    matrix = np.where(rng.random(matrix.shape) < 0.02, matrix, 0)
    return Qubo(rng.integers(-9, 10, size=matrix.shape[:-1]), matrix + matrix.swapaxes(-1, -2), 2.0)


@pytest.mark.parametrize("temperature", [None, 10.0])
@pytest.mark.parametrize("batch", [None, 2])
def test_lists_of_neighbours_change_no_sample(batch, temperature, monkeypatch):
    qubo, arguments = thin(batch=batch), {"num_reads": 4, "num_sweeps": 60, "temperature": temperature}
    sparse, two = (Annealer(threads=k).sample_arrays(qubo, seed=3, **arguments) for k in (1, 2))
    assert sparse.info["sparse"]
    assert torch.equal(sparse.bits, two.bits)
    assert torch.equal(sparse.energies, qubo.energies(sparse.bits))
    started = Annealer().sample_arrays(qubo, seed=4, **arguments, initial_states=sparse.bits[..., :2, :])
    held = Annealer().sample_arrays(qubo, seed=4, **arguments, cardinality=9)
    assert (held.bits.sum(-1) == 9).all()
    monkeypatch.setattr(annealer, "laid_out", Dense.of)
    dense = Annealer().sample_arrays(qubo, seed=3, **arguments)
    assert not dense.info["sparse"]
    assert torch.equal(dense.bits, sparse.bits)
    dense = Annealer().sample_arrays(qubo, seed=4, **arguments, initial_states=sparse.bits[..., :2, :])
    assert torch.equal(dense.bits, started.bits)


def test_two_python_threads_may_call_at_once():
    calls = [{"qubo": problem(120, k), "num_reads": 60, "num_sweeps": 200, "seed": k} for k in range(2)]
    expected, found = [Annealer(threads=2).sample_arrays(**call).bits for call in calls], {}

    def work(k):
        found[k] = Annealer(threads=2).sample_arrays(**calls[k]).bits

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[k], expected[k]) for k in range(2))


def test_a_time_limit_gives_fewer_reads_each_a_local_minimum():
    qubo = problem(300, batch=2)
    begun = time.monotonic()
    reads = Annealer(threads=1).sample_arrays(qubo, num_reads=50, num_sweeps=100_000, time_limit=0.2, seed=0)
    assert time.monotonic() - begun < 10
    assert not reads.info["completed"]
    assert 1 <= reads.bits.shape[1] < 50
    torch.testing.assert_close(reads.energies, qubo.energies(reads.bits))
    assert (reads.energies < qubo.energies(torch.zeros_like(reads.bits))).all()


def test_nothing_worse_than_the_start():
    qubo = problem(40)
    best = Annealer().sample_arrays(qubo, num_reads=20, seed=0)
    again = Annealer().sample_arrays(qubo, num_sweeps=1, seed=1, initial_states=best.bits[0])
    assert again.energies[0] <= best.energies[0]


def test_info_is_honest():
    reads = Annealer().sample_arrays(problem(64), num_reads=3, num_sweeps=50, seed=0)
    info = reads.info
    assert (info["sweeps"], info["annealings"], info["completed"]) == (50, 1, True)
    assert 0 < info["flips"] <= 3 * 50 * 64
    assert info["acceptance"] == info["flips"] / (3 * 50 * 64)
    assert info["temperatures"][0] >= 4 * info["temperatures"][1] > 0
    assert info["seconds"].keys() == {"prepare", "anneal", "energies"}


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="Invalid num_sweeps: 0"):
        Annealer().sample_arrays(problem(3), num_sweeps=0)
    with pytest.raises(ValueError, match="Invalid threads: 0"):
        Annealer(threads=0)


def test_the_default_is_ours():
    assert isinstance(samplers.resolve("annealer"), Annealer)
