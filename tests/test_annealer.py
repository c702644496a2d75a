"""Our annealer: dimod's own checks, ground states, threads, interrupts, limits, bad input."""

import signal
import subprocess
import sys
import threading
import time
import unittest

import dimod
import dimod.testing
import numpy as np
import pytest
import torch

from qanneal_opt import samplers
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer, annealer
from qanneal_opt.samplers.exact import all_energies
from qanneal_opt.samplers.layout import Dense
from qanneal_opt.testing import assert_sampler


def problem(n, seed=0, batch=None, shared=False):
    rng = np.random.default_rng(seed)
    quadratic = rng.normal(size=(n, n) if batch is None or shared else (batch, n, n))
    quadratic = quadratic + quadratic.swapaxes(-1, -2)
    quadratic[..., np.arange(n), np.arange(n)] = 0
    return Qubo(rng.normal(size=n if batch is None else (batch, n)), quadratic, 0.5)


@dimod.testing.load_sampler_bqm_tests(Annealer)
class TestDimod(unittest.TestCase):
    """Filled by dimod with its checks of every kind of model."""


def test_the_checks_of_dimod_and_our_own_pass():
    dimod.testing.assert_sampler_api(Annealer())
    bqm = dimod.BinaryQuadraticModel({"b": 1.0, "a": -2.0}, {("a", "b"): 1.5}, 0.25, "SPIN")
    found = Annealer().sample(bqm, num_reads=3, seed=0, initial_states={"a": 1, "b": 1})
    dimod.testing.assert_sampleset_energies(found, bqm)
    assert found.first.sample == dimod.ExactSolver().sample(bqm).first.sample
    for empty in (dimod.BinaryQuadraticModel("SPIN"), dimod.BinaryQuadraticModel({"x": -1.0}, {}, "BINARY")):
        dimod.testing.assert_sampleset_energies(Annealer().sample(empty), empty)
    assert_sampler(Annealer())
    assert_sampler("annealer")


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_ground_states_of_small_problems_at_default_settings(count):
    missed = 0
    for seed in range(count):
        qubo = problem(1 + seed % 12, seed)
        missed += Annealer().sample_arrays(qubo, seed=seed).energies[0].item() > all_energies(qubo).min() + 1e-9
    assert missed <= max(1, count // 1000)


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
    qubo, found = problem(120), {}
    expected = Annealer(threads=2).sample_arrays(qubo, num_reads=60, num_sweeps=200, seed=1).bits

    def work(k):
        found[k] = Annealer(threads=2).sample_arrays(qubo, num_reads=60, num_sweeps=200, seed=1).bits

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[k], expected) for k in range(2))


INTERRUPTED = """
import signal, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer, annealer
q = torch.randn(500, 500, dtype=torch.float64)
qubo = Qubo(torch.randn(500), (q + q.T).fill_diagonal_(0))
sampler = Annealer(threads=THREADS)
sampler.sample_arrays(qubo, num_sweeps=2)
print("ready", flush=True)
sampler.sample_arrays(qubo, num_reads=100, num_sweeps=1_000_000)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_stops_it(threads):
    code = INTERRUPTED.replace("THREADS", str(threads))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline().strip() == b"ready"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, errors = child.communicate(timeout=30)
    assert time.monotonic() - begun < 5  # within a second on an idle machine
    assert b"KeyboardInterrupt" in errors


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_sweeps": 0}, "Invalid num_sweeps: 0"),
        ({"time_limit": 0}, "Invalid time_limit: 0"),
        ({"num_reads": 0}, "Invalid num_reads: 0"),
        ({"temperature": -1.0}, "Invalid temperature: -1"),
        ({"initial_states": [0, 2, 1]}, "Invalid initial_states: entries"),
    ],
)
def test_bad_requests_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        Annealer().sample_arrays(problem(3), **arguments)
    with pytest.raises(ValueError, match="Invalid threads: 0"):
        Annealer(threads=0)


def test_the_default_is_ours():
    assert isinstance(samplers.resolve("annealer"), Annealer)
