"""What the annealer finds and draws over many random problems of several kinds, against enumeration."""

import numpy as np
import pytest
import torch

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer
from qanneal_opt.samplers.exact import all_bits, all_energies
from qanneal_opt.samplers.schedules import flip_scale

KINDS = ["normal", "sparse integers", "signs without fields", "fields of all sizes"]


def problems(kind, count, n, seed=0):
    """A batch of random QUBOs of one kind, each with a matrix of its own."""
    rng = np.random.default_rng([seed, n, KINDS.index(kind)])
    quadratic, linear = rng.normal(size=(count, n, n)), rng.normal(size=(count, n))
    if kind == "sparse integers":
        quadratic = rng.integers(-100, 101, quadratic.shape) * (rng.random(quadratic.shape) < 0.3)
        linear = rng.integers(-100, 101, linear.shape)
    elif kind == "signs without fields":
        quadratic, linear = rng.choice([-1.0, 1.0], quadratic.shape), np.zeros(linear.shape)
    elif kind == "fields of all sizes":
        linear = linear * 10 ** rng.uniform(-2, 2, (count, 1))
    upper = np.triu(quadratic, 1).astype(float)
    return Qubo(linear.astype(float), upper + upper.swapaxes(1, 2))


def test_ground_states_of_ten_thousand_problems_at_default_settings():
    missed = total = 0
    for kind in KINDS:
        for n in range(1, 13):
            qubo = problems(kind, 209, n)
            found = Annealer().sample_arrays(qubo, seed=n).energies[:, 0]
            lowest = qubo.energies(torch.from_numpy(all_bits(n)).expand(209, -1, -1)).amin(1)
            missed += (found > lowest + 1e-9 * lowest.abs() + 1e-12).sum().item()
            total += len(found)
    assert total > 10_000
    assert missed <= total // 1000


@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", [0.2, 1.0, 5.0])
def test_draws_are_as_near_to_the_boltzmann_distribution_as_exact_ones_and_tell_their_temperature(count, level):
    """A problem fails beyond the farthest of 1000 exact samples of the same size, which 1 in 1000 would."""
    reads, n, failed, estimates = 20_000, 10, 0, []
    for seed in range(count):
        qubo = problems(KINDS[seed % len(KINDS)], 1, n, seed).problem(0)
        temperature = level * float(np.median(flip_scale(qubo)))
        energies = all_energies(qubo)
        chances = np.exp((energies.min() - energies) / temperature)
        chances /= chances.sum()
        drawn = Annealer().sample_arrays(qubo, num_reads=reads, seed=seed, temperature=temperature)
        found = np.bincount(drawn.bits.numpy() @ (1 << np.arange(n)[::-1]), minlength=2**n) / reads
        exact = np.random.default_rng(seed).multinomial(reads, chances, size=1000) / reads
        failed += np.abs(found - chances).sum() > np.abs(exact - chances).sum(1).max()
        estimates.append(drawn.info["temperature_estimate"] / temperature)
    assert failed <= count // 100
    assert 0.9 < min(estimates) <= max(estimates) < 1.1
