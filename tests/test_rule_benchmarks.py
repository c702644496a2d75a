"""The problems and the controls of the benchmarks of rules, on small cases."""

import numpy as np
import pytest
import torch

from benchmarks import automata, rules
from benchmarks.covering import learn
from benchmarks.soft_rules import Soft, relax


def test_a_multiplexer_gives_the_addressed_bit():
    task, places = rules.multiplexer(3, 50, distractors=2), np.random.default_rng(3)
    places.integers(0, 2, (50 + rules.TESTS, 13))
    bits = task.inputs.numpy()[:, places.permutation(13)[:11]].astype(int)
    assert task.targets.tolist() == [row[3 + 4 * row[0] + 2 * row[1] + row[2]] for row in bits]


def test_flipped_labels_are_in_the_training_set_alone():
    clean, noisy = (rules.disjunction(5, 30, 5, 3, 400, flipped) for flipped in (0.0, 0.1))
    assert 0.05 < float((clean.targets != noisy.targets).float().mean()) < 0.16
    assert torch.equal(clean.test_targets, noisy.test_targets) and torch.equal(clean.inputs, noisy.inputs)


@pytest.mark.parametrize("prune", [False, True])
def test_covering_learns_two_terms(prune):
    inputs = np.random.default_rng(0).integers(0, 2, (600, 8)).astype(bool)
    labels = (inputs[:, 0] & inputs[:, 1]) | (~inputs[:, 2] & inputs[:, 3])
    found = learn(inputs, labels, np.random.default_rng(1), prune=prune)
    assert {tuple(np.flatnonzero(row) * row[row != 0]) for row in found} >= {(0, 1), (-2, 3)}
    assert (rules.hold(found, inputs).any(1) == labels).mean() > 0.95


@pytest.mark.parametrize("real", [False, True])
def test_gradients_on_the_same_class_learn_a_rule(real):
    x = torch.randint(2, (200, 5), generator=torch.Generator().manual_seed(0)).float()
    y = 2 * x[:, 0] * (1 - x[:, 1]) - 1 if real else x[:, 0] * (1 - x[:, 1])
    model, steps = relax(x, y, 2, real, Soft(0.1, 0.01, hard=False), 3.0, 0)
    with torch.no_grad():
        assert steps > 0 and float((model(x) - y).square().mean()) < 1e-6


def test_hidden_automata_are_minimal():
    for seed in range(5):
        table, outputs = automata.automaton(np.random.default_rng(seed))
        words = [np.array(word) for word in np.ndindex(*([2] * 7))]
        ends = np.zeros((automata.STATES, len(words)), int)
        for q in range(automata.STATES):
            for k, word in enumerate(words):
                p, seen = q, 0
                for symbol in word:
                    seen = 2 * seen + outputs[p]
                    p = table[p, symbol]
                ends[q, k] = 2 * seen + outputs[p]
        assert len(np.unique(ends, axis=0)) == automata.STATES  # words of length 7 tell 8 states apart


def test_strings_of_both_sets_have_the_lengths_that_are_told():
    x, y, test, wanted = automata.problem(0, 100, 0.0)
    lengths, longer = (x >= 0).sum(1), (test >= 0).sum(1)
    assert lengths.min() >= 1 and lengths.max() == 15 and longer.min() == 16 and longer.max() == 32
    assert set(y.tolist()) == {0.0, 1.0} == set(wanted.tolist())
