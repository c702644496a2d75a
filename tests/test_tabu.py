"""Our tabu search: against enumeration, reproducible, from several threads."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Tabu, resolve
from qanneal_opt.samplers.exact import all_energies


def problem(n, seed, density=1.0):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(-100, 101, (n, n)) * (rng.random((n, n)) < density), 1)
    return Qubo(rng.integers(-100, 101, n).astype(float), (upper + upper.T).astype(float), 3.0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 12])
def test_it_finds_the_ground_states_of_small_problems(n):
    for seed in range(40):
        qubo = problem(n, seed, density=0.5 if seed % 2 else 1.0)
        found = Tabu(patience=200).sample_arrays(qubo, seed=seed)
        assert found.energies[0] == all_energies(qubo).min()


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e200])
def test_the_scale_of_the_energies_does_not_matter(scale):
    qubo = problem(40, 1)
    scaled = Qubo(qubo.linear * scale, qubo.quadratic * scale)
    first, second = (Tabu(moves=50).sample_arrays(q, seed=3, num_reads=2).bits for q in (qubo, scaled))
    assert torch.equal(first, second) or torch.allclose(qubo.energies(first), qubo.energies(second))


def test_a_seed_gives_the_same_samples_also_in_two_threads_at_once():
    qubo = problem(200, 5)
    tabu = Tabu(moves=100)
    alone = [tabu.sample_arrays(qubo, seed=seed, num_reads=2) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: tabu.sample_arrays(qubo, seed=seed, num_reads=2), range(4)))
    assert all(torch.equal(a.bits, b.bits) for a, b in zip(alone, together))
    assert all(a.info | {"seconds": 0} == b.info | {"seconds": 0} for a, b in zip(alone, together))


def test_moves_are_counted_and_more_of_them_find_better_states():
    qubo = problem(300, 2)
    few, many = (Tabu(moves=moves).sample_arrays(qubo, seed=0, num_reads=4) for moves in (1, 300))
    assert few.info["flips"] == 4 * 300 and many.info["flips"] == 4 * 300 * 300
    assert few.info["rounds"] == 4 < many.info["rounds"]
    assert few.info["completed"] and many.info["completed"]
    assert many.info["seconds"].keys() == {"prepare", "search", "energies"}
    assert min(many.info["seconds"].values()) > 0
    assert many.energies.mean() < few.energies.mean()


def test_many_rounds_on_a_problem_wider_than_a_block_end_in_local_minima():
    qubo = problem(150, 7)
    bits = Tabu(moves=200, patience=100).sample_arrays(qubo, seed=1).bits[0].double()
    change = (1 - 2 * bits) * (qubo.linear + qubo.quadratic @ bits)
    assert change.min() >= 0


def test_an_initial_state_is_where_it_starts():
    qubo = problem(12, 0)
    ground = Tabu().sample_arrays(qubo, seed=0).bits
    found = Tabu(moves=1).sample_arrays(qubo, seed=9, initial_states=ground)
    assert torch.equal(found.bits, ground)


def test_a_time_limit_ends_the_search():
    batch = Qubo(torch.zeros(2, 100), problem(100, 0).quadratic)
    Tabu(moves=1).sample_arrays(batch)  # compiled now
    begun = time.monotonic()
    found = Tabu().sample_arrays(batch, num_reads=4, time_limit=0.2)
    assert 0.15 < time.monotonic() - begun < 5
    assert found.bits.shape == (2, 4, 100) and found.info["completed"]
    assert not Tabu(moves=10**9).sample_arrays(batch, time_limit=0.01).info["completed"]
    assert Tabu(moves=1).sample_arrays(batch, time_limit=60.0).info["flips"] == 200


@pytest.mark.parametrize("options", [{"moves": 0}, {"patience": 0}, {"elites": 0}, {"moves": 1.5}])
def test_bad_options_are_named(options):
    with pytest.raises((ValueError, TypeError), match=f"Invalid {next(iter(options))}: "):
        Tabu(**options)


def test_its_name():
    assert isinstance(resolve("tabu"), Tabu)
