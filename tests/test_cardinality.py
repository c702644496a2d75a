"""The annealer at a fixed number of ones: against enumeration, batches, starts, bad input."""

from functools import partial

import dimod
import numpy as np
import pytest
import torch

from qanneal_opt.samplers import Annealer
from qanneal_opt.samplers.exact import all_bits, all_energies
from qanneal_opt.samplers.schedules import flip_scale
from tests import qubos

problem = partial(qubos.problem, shared=True, offset=0.0)


def test_ground_states_are_those_of_enumeration():
    missed = 0
    for seed in range(200):
        n = 1 + seed % 10
        qubo, ones = problem(n, seed), seed // 10 % (n + 1)
        found = Annealer().sample_arrays(qubo, num_reads=2, seed=seed, cardinality=ones)
        assert (found.bits.sum(-1) == ones).all()
        missed += found.energies[0].item() > all_energies(qubo)[all_bits(n).sum(1) == ones].min() + 1e-9
    assert missed == 0


@pytest.mark.parametrize("level", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("ones", [1, 3, 4])
def test_draws_are_those_of_boltzmann(level, ones):
    qubo, reads = problem(8, ones), 20_000
    temperature = level * float(np.median(flip_scale(qubo)))
    bits = Annealer().sample_arrays(qubo, num_reads=reads, seed=1, temperature=temperature, cardinality=ones).bits
    assert (bits.sum(-1) == ones).all()
    valid = all_bits(8).sum(1) == ones
    weights = np.where(valid, np.exp((all_energies(qubo)[valid].min() - all_energies(qubo)) / temperature), 0)
    expected = weights / weights.sum()
    found = np.bincount(bits.numpy() @ (1 << np.arange(7, -1, -1)), minlength=256) / reads
    exact = np.random.default_rng(0).multinomial(reads, expected, size=1000) / reads  # what exact draws show
    assert np.abs(found - expected).sum() <= 1.2 * np.abs(exact - expected).sum(1).max()


def test_batches_starts_limits_and_models_keep_it():
    qubo = problem(30, 0, batch=4)
    drawn = Annealer(threads=2).sample_arrays(qubo, num_reads=6, seed=0, cardinality=7)
    assert (drawn.bits.sum(-1) == 7).all()
    again = Annealer(threads=1).sample_arrays(qubo, num_reads=6, seed=0, cardinality=7)
    assert torch.equal(drawn.bits, again.bits)
    kept = Annealer().sample_arrays(qubo, num_sweeps=1, seed=1, cardinality=7, initial_states=drawn.bits[:, :1])
    assert (kept.energies[:, 0] <= drawn.energies[:, 0]).all()
    hurried = Annealer().sample_arrays(qubo, num_reads=5, time_limit=1e-9, cardinality=7)
    assert (hurried.bits.sum(-1) == 7).all()
    assert (kept.info["cardinality"], "temperature_estimate" in kept.info) == (7, False)
    model = dimod.BinaryQuadraticModel({"a": 1.0, "b": -1.0, "c": 2.0}, {"ab": 1.0}, 0.0, "SPIN")
    assert sum(Annealer().sample(model, cardinality=2, seed=0).first.sample.values()) == 1
    minimum = Annealer().sample_arrays(qubo.problem(0), seed=3, cardinality=7)
    state = minimum.bits[0]
    for i in state.nonzero()[:, 0]:
        for j in (1 - state).nonzero()[:, 0]:
            other = state.clone()
            other[i], other[j] = 0, 1
            assert qubo.problem(0).energies(other) >= minimum.energies[0] - 1e-4


@pytest.mark.parametrize("ones", [-1, 4, 1.5, True])
def test_bad_numbers_are_named(ones):
    with pytest.raises(ValueError, match=r"Invalid cardinality: .*; must be an int from 0 to 3"):
        Annealer().sample_arrays(problem(3, 0), cardinality=ones)


def test_starts_have_as_many_ones():
    with pytest.raises(ValueError, match="Invalid initial_states: another number of ones"):
        Annealer().sample_arrays(problem(3, 0), cardinality=1, initial_states=[1, 1, 0])
