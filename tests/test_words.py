"""Words: several bits that are one weight, drawn together; against enumeration and against single flips."""

import dataclasses

import numpy as np
import pytest
import torch

import qanneal_opt as qa
from qanneal_opt.quadratic import Affine, QuadraticModel
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer
from qanneal_opt.samplers.exact import all_bits, all_energies
from qanneal_opt.samplers.schedules import flip_scale


def window(weights, bits, seed, rows=2):
    """A quadratic model of weights, as least squares of ``rows`` equations a weight, in a window of displacements."""
    rng = np.random.default_rng(seed)
    J = rng.normal(size=(rows * weights, weights))
    H = J.T @ J / len(J)
    return QuadraticModel(-H @ rng.uniform(-1, 1, weights), H).encode(qa.Window(bits, 1.0))


def problem(n, word, seed, batch=None):
    rng = np.random.default_rng(seed)
    quadratic = rng.normal(size=(n, n))
    quadratic = quadratic + quadratic.T
    np.fill_diagonal(quadratic, 0)
    return Qubo(rng.normal(size=n if batch is None else (batch, n)), quadratic, word=word)


def flips(qubo):
    return dataclasses.replace(qubo, word=1)


@pytest.mark.parametrize("make", [window, lambda weights, bits, seed: problem(weights * bits, bits, seed)])
@pytest.mark.parametrize(("weights", "bits"), [(4, 2), (3, 3), (1, 8)])
@pytest.mark.parametrize("level", [0.03, 1.0])
def test_draws_are_those_of_boltzmann(make, weights, bits, level):
    qubo, reads = make(weights, bits, 3), 8_000
    temperature = level * float(np.median(flip_scale(qubo)))
    bit_strings = Annealer().sample_arrays(qubo, num_reads=reads, seed=0, temperature=temperature).bits
    energies = all_energies(qubo)
    chances = np.exp((energies.min() - energies) / temperature)
    chances /= chances.sum()
    found = np.bincount(bit_strings.numpy() @ (1 << np.arange(qubo.n)[::-1]), minlength=len(chances)) / reads
    exact = np.random.default_rng(0).multinomial(reads, chances, size=1000) / reads
    assert np.abs(found - chances).sum() <= np.abs(exact - chances).sum(1).max()


def test_ground_states_are_those_of_enumeration():
    for seed in range(40):
        qubo = window(2 + seed % 3, 3, seed) if seed % 2 else problem(12, 4, seed)
        found = Annealer().sample_arrays(qubo, seed=seed)
        assert found.energies[0].item() == pytest.approx(all_energies(qubo).min(), abs=1e-9)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_no_other_value_of_a_weight_betters_a_minimum(bits):
    qubo = window(10, bits, 1)
    found = Annealer().sample_arrays(qubo, num_reads=5, seed=0)
    for state, energy in zip(found.bits, found.energies):
        for first in range(0, qubo.n, bits):
            others = state.repeat(2**bits, 1)
            others[:, first : first + bits] = torch.from_numpy(all_bits(bits))
            assert (qubo.energies(others) >= energy - 1e-5).all()


@pytest.mark.parametrize(("weights", "bits"), [(16, 2), (16, 3), (32, 4), (8, 8)])
def test_minima_are_lower_than_those_of_single_flips_after_as_many_sweeps(weights, bits):
    means = []
    for seed in range(10):
        qubo = window(weights, bits, seed)
        arguments = {"num_reads": 10, "num_sweeps": 50, "seed": seed}
        means.append([Annealer().sample_arrays(q, **arguments).energies.mean().item() for q in (qubo, flips(qubo))])
    words, singles = np.array(means).T
    assert (words < singles).sum() >= 8
    assert words.mean() < singles.mean()


def test_a_start_in_a_minimum_of_flips_is_bettered_and_never_returned_worse():
    lower = 0
    for seed in range(10):
        qubo = window(12, 3, seed)
        start = Annealer().sample_arrays(flips(qubo), num_sweeps=20, seed=seed)
        found = Annealer().sample_arrays(qubo, num_sweeps=1, seed=seed, initial_states=start.bits)
        assert found.energies[0] <= start.energies[0]
        lower += (found.energies[0] < start.energies[0] - 1e-9).item()
    assert lower >= 5


def test_batches_threads_limits_and_a_number_of_ones():
    qubo = problem(24, 3, 0, batch=4)
    assert qubo.problem(2).word == 3
    one, two = (Annealer(threads=t).sample_arrays(qubo, num_reads=40, num_sweeps=200, seed=1) for t in (1, 2))
    assert torch.equal(one.bits, two.bits)
    alone = Annealer().sample_arrays(qubo.problem(0), num_reads=40, num_sweeps=200, seed=1)
    assert torch.equal(alone.bits, one.bits[0])
    hurried = Annealer().sample_arrays(qubo, num_reads=50, num_sweeps=10**6, time_limit=0.05, seed=0)
    assert not hurried.info["completed"]
    held = [Annealer().sample_arrays(q, num_reads=3, seed=0, cardinality=5).bits for q in (qubo, flips(qubo))]
    assert torch.equal(*held)


def test_the_qubo_of_a_window_says_its_bits_and_the_step_asks_with_it():
    assert window(3, 4, 0).word == 4
    words = []

    class Recorder:
        def sample_arrays(self, qubo, **arguments):
            words.append((qubo.word, qubo.n))
            return Annealer().sample_arrays(qubo, **arguments)

    model = torch.nn.Linear(6, 2)
    data = torch.randn(20, 6), torch.randn(20, 2)
    optimizer = qa.AnnealingOptimizer(
        [{"params": [model.weight], "encoding": qa.Window(3, 0.1)}, {"params": [model.bias]}],
        objective=qa.Objective(model, torch.nn.functional.mse_loss, data),
        annealing=qa.QuboStep(Recorder(), proposals=10, variables=18),
    )
    optimizer.anneal()
    assert words == [(3, 15), (3, 15)]  # ten weights in two blocks


@pytest.mark.parametrize("word", [0, 9, 4, True, 2.0])
def test_words_that_do_not_fit_are_named(word):
    with pytest.raises(ValueError, match=r"Invalid word: .*; must be an int from 1 to 8 that divides n, 6"):
        Qubo(torch.zeros(6), torch.zeros(6, 6), word=word)
    with pytest.raises(ValueError, match="Invalid word"):
        QuadraticModel([0.0], [[1.0]]).encode(Affine([0.0], torch.ones(1, 6), word))
