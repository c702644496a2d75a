"""Rules between trained parts: the problems and the models of the benchmarks, on small cases."""

import numpy as np
import pytest
import torch

import qanneal_opt as qa
from benchmarks import mixed, regimes
from benchmarks.mixed_models import SoftRules
from benchmarks.mixed_table import ahead, table, won


def test_a_multiplexer_gives_the_addressed_bit():
    bits = np.random.default_rng(0).integers(0, 2, (50, 6))
    assert regimes.address(bits, 2).tolist() == [row[2 + 2 * row[0] + row[1]] for row in bits]


def test_measurements_keep_the_order_of_samples():
    uniform = np.random.default_rng(1).random((40, 12))
    columns = regimes.measurements(np.random.default_rng(2), uniform)
    assert (np.argsort(columns, 0) == np.argsort(uniform, 0)).all()
    assert np.ptp(np.log10(columns.std(0))) > 1  # scales are not one


@pytest.mark.parametrize("linear", [0, 3])
def test_problems_have_balanced_labels_that_their_seed_makes(linear):
    first, again = (regimes.regimes(3, 12, 400, 2, linear=linear) for _ in range(2))
    assert first.inputs.shape == (400, 12 + linear) and torch.equal(first.inputs, again.inputs)
    assert 0.3 < float(first.test_targets.mean()) < 0.7


def test_soft_rules_are_the_layer_where_memberships_are_decided():
    torch.manual_seed(0)
    x, layer = torch.randn(60, 4), qa.RuleLayer(4, 3, thresholds=2)
    layer.place_thresholds(x)
    layer.literals.copy_(torch.randint(-1, 2, layer.literals.shape))
    for hard in ("nothing", "thresholds", "literals"):
        soft = SoftRules(4, 3, hard=hard, thresholds=2)
        soft.load_state_dict(layer.state_dict(), strict=False)
        with torch.no_grad():
            soft.members.copy_(torch.stack([layer.literals > 0, layer.literals < 0]) * 200.0 - 100.0)
        assert torch.equal(soft.eval()(x), layer.eval()(x))
        soft.train()
        if hard != "nothing":
            assert torch.equal(soft.activations(x), layer.activations(x))
        soft(x).sum().backward()
        assert soft.members.grad.isfinite().all() and soft.thresholds.grad.abs().sum() > 0


def test_the_alternation_learns_what_annealing_alone_does_not():
    task = mixed.Mixed(lambda seed: regimes.regimes(seed, 8, 400, 1), mixed.over_thresholds, enough=0.95, seconds=0.3)
    assert mixed.alternate(task, 1000, mixed.Alternation(moves=10_000))["solved"]
    assert not mixed.anneal(task, 1000, mixed.Alternation(moves=10_000))["solved"]
    assert mixed.gradients(task, 1000, mixed.Soft(0.05, 0.1, "thresholds"))["ge"] > 0


def test_a_seed_is_won_where_neither_part_solves_it_in_four_times_the_time():
    def rows(gradients, seconds, ours=True):
        for name, solved, cpu in (("ours", ours, 1.0), ("gradients", gradients, seconds), ("annealing", False, 9.0)):
            yield {"contender": name, "seed": 3, "solved": solved, "cpu_s": cpu, "metric": 0.9, "loss": 0.1}

    assert won(list(rows(False, 4.0))) == [3]
    assert won(list(rows(True, 3.9))) == won(list(rows(False, 3.9))) == won(list(rows(False, 4.0, ours=False))) == []
    assert won(list(rows(True, 4.1))) == [3]  # solved, but later
    assert "1 of 1 seeds" in table([*rows(False, 4.0)])


def test_a_seed_is_ahead_where_no_part_alone_is_as_accurate_or_solves_it():
    def rows(gradients, solved=False):
        for name, metric in (("ours", 0.9), ("gradients", gradients), ("annealing", 0.7)):
            row = {"contender": name, "seed": 3, "metric": metric, "solved": solved and name == "gradients"}
            yield row

    assert ahead(list(rows(0.8))) == [3]
    assert ahead(list(rows(0.9))) == ahead(list(rows(0.8, solved=True))) == []
