"""The search for sparse rows that the benchmark `sparse_parity` runs."""

import itertools

import pytest
import torch

from benchmarks.row_search import RowSearch, Setting, greedy
from benchmarks.tasks import sparse_parity as task
from qanneal_opt.qubo import Qubo

SEED = task.TUNING_SEEDS[0]


def search(solve):
    inputs, labels, _, _ = task.parity(SEED, 300)
    found = RowSearch(inputs, labels, solve, Setting(), torch.Generator().manual_seed(0))
    return found, found.run(500)


def test_a_hidden_parity_is_found_again_bit_for_bit_and_no_global_state_moves():
    before = torch.get_rng_state()
    (found, fit), (again, _) = search(task.anneal), search(task.anneal)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found.rows, again.rows)
    assert found.ge == again.ge < 500
    _, _, inputs, labels = task.parity(SEED, 300)
    assert task.accuracy(found.model, inputs, labels) == 1.0
    assert fit.wrong == 0
    # What was judged without touching the network is what the network does.
    assert float(found.objective()) == pytest.approx(fit.loss, rel=1e-4)
    assert torch.equal(found.rows.any(1), found.output.weight[0] != 0)


def test_no_weight_moves_where_a_solver_finds_nothing():
    found, fit = search(lambda qubo, seed: torch.zeros(qubo.n))
    assert not found.rows.any()
    assert found.judged == 0
    assert fit.wrong > 0
    assert 500 <= found.ge < 510


def test_what_a_row_model_and_a_refit_cost():
    inputs, labels = torch.randn(20, 5), torch.ones(20)
    found = RowSearch(
        inputs, labels, lambda qubo, seed: torch.zeros(qubo.n), Setting(hidden=4, probe=3), torch.Generator()
    )
    found._refit()
    unit = 3 * 20 * (5 * 4 + 4)
    refit = 1 / 3 + (20 * 1 * 2 + 1) / unit  # the bias alone
    assert found.ge == pytest.approx(refit)
    found._candidates(0, found.rows[0].clone())
    assert found.ge == pytest.approx(refit + 2 + 2 * 20 * 5 * 6 / unit)


@pytest.mark.parametrize("pairs", [False, True])
def test_greedy_ends_where_no_flip_helps(pairs):
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        upper = torch.randn(6, 6, generator=generator, dtype=torch.float64).triu(1)
        qubo = Qubo(torch.randn(6, generator=generator, dtype=torch.float64), upper + upper.T)
        bits = greedy(qubo, pairs)
        here = qubo.energies(bits)
        assert here <= 0
        for size in range(1, 3 if pairs else 2):
            for places in itertools.combinations(range(6), size):
                flipped = bits.clone()
                flipped[list(places)] = 1 - flipped[list(places)]
                assert qubo.energies(flipped) >= here - 1e-9


def test_single_flips_cannot_see_a_pair_that_pairs_can():
    qubo = Qubo([1.0, 1.0], [[0.0, -3.0], [-3.0, 0.0]])
    assert greedy(qubo, pairs=False).tolist() == [0, 0]
    assert greedy(qubo, pairs=True).tolist() == [1, 1]


@pytest.mark.parametrize("name", ["exhaustive", "greedy_pairs"])
def test_controls_that_solve_the_task(name):
    result = task.CONTENDERS[name](SEED)
    assert result["solved"]
    assert result["loss"] == 0.0
    assert 5 < result["ge"] < 500
