"""The problems and the controls of the benchmarks of rules, on small cases."""

from itertools import product

import numpy as np
import pytest
import torch

import qanneal_opt as qa
from benchmarks import automata, edsm, overview, rules
from benchmarks.covering import Pruning, learn
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


@pytest.mark.parametrize("pruning", [None, Pruning(6)])
def test_covering_learns_two_terms(pruning):
    inputs = np.random.default_rng(0).integers(0, 2, (600, 8)).astype(bool)
    labels = (inputs[:, 0] & inputs[:, 1]) | (~inputs[:, 2] & inputs[:, 3])
    found = learn(inputs, labels, np.random.default_rng(1), pruning)
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


def canonical(layer):
    """Table and outputs of the states that can be reached, numbered as a search from state 0 meets them."""
    order = [0]
    for p in order:
        order += [q for q in dict.fromkeys(layer.table[p].tolist()) if q not in order]
    return [([order.index(int(q)) for q in layer.table[p]], bool(layer.outputs[p])) for p in order]


MACHINES = {
    "odd number of ones": ([[0, 1], [1, 0]], [0, 1]),
    "ones a multiple of three": ([[0, 1], [1, 2], [2, 0]], [1, 0, 0]),
    "ends in 01": ([[1, 0], [1, 2], [1, 0]], [0, 0, 1]),
    "no two ones in a row": ([[0, 1], [0, 2], [2, 2]], [1, 1, 0]),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("flipped", [0.0, 0.1])
def test_state_merging_finds_small_automata(name, flipped):
    true = automata.machine(*map(np.array, MACHINES[name]))
    rng = np.random.default_rng(0)
    x = automata.strings(rng, 600, 0, 10)
    y = true(torch.from_numpy(x)).numpy()
    if flipped:
        y = np.abs(y - (rng.random(len(y)) < flipped))
    found = automata.machine(*edsm.learn(x, y, edsm.Setting((flipped, 2 * flipped), -3.0 * flipped)))
    assert canonical(found) == canonical(true)


def test_evidence_is_the_likelihood_of_one_label_for_all():
    for zeros, ones, noise in ((0, 0, 0.1), (3, 0, 0.1), (2, 5, 0.2), (400, 390, 0.1)):
        likelihood = sum((1 - noise) ** a * noise**b / 2 for a, b in ((zeros, ones), (ones, zeros)))
        wanted = np.log(likelihood) if likelihood else -np.log(2) + 400 * np.log(0.9) + 390 * np.log(0.1)
        assert edsm.evidence(zeros, ones, noise) == pytest.approx(wanted, abs=1e-3 if zeros == 400 else 1e-9)
    assert edsm.evidence(3, 0, 0.0) == pytest.approx(-np.log(2)) and edsm.evidence(1, 1, 0.0) == -np.inf


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_fold_is_scored_by_what_it_does_to_all_states(noise):
    # Two trees: 0 -0-> 2, 0 -1-> 3, and 1 -0-> 4 -1-> 5.
    child = np.array([[2, 3], [4, -1], [-1, -1], [-1, -1], [-1, 5], [-1, -1]])
    counts = np.array([[0, 2], [0, 1], [1, 0], [4, 0], [3, 0], [0, 7]], float)
    parts = [[0, 1], [2, 4], [3], [5]]

    def evidence(rows):
        return sum(edsm.evidence(*row, noise) for row in rows)

    wanted = evidence([counts[part].sum(0) for part in parts]) - evidence(counts)
    assert edsm.fold(child, counts, 0, 1, noise) == pytest.approx(wanted)
    assert counts[0].tolist() == [0, 3] and counts[2].tolist() == [4, 0] and child[2, 1] == 5


def test_equal_strings_of_different_labels_need_noise():
    x, y = np.array([[0, 1], [0, 1]]), np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="Invalid noise: 0"):
        edsm.learn(x, y, edsm.Setting((0.0,), 0.0))
    assert len(edsm.learn(x, y, edsm.Setting((0.1,), -10.0))[0]) == 1


def test_printed_rules_of_a_solved_multiplexer_are_the_true_ones():
    seed, samples, distractors = 1000, 300, 4
    task, places = rules.multiplexer(seed, samples, distractors), np.random.default_rng(seed)
    places.integers(0, 2, (samples + rules.TESTS, 11 + distractors))
    names = [""] * 15
    for place, name in zip(places.permutation(15), ["a2", "a1", "a0", *(f"d{k}" for k in range(8))]):
        names[place] = name
    layer = qa.RuleLayer(15, 10)
    optimizer = qa.AnnealingOptimizer(
        layer.parameters(),
        objective=qa.Objective(layer, torch.nn.functional.mse_loss, (task.inputs, task.targets)),
        annealing=qa.RuleStep(restarts=5, moves=100_000),
    )
    optimizer.anneal()
    true = {
        frozenset(
            [f"d{4 * a + 2 * b + c}", *(n if bit else f"not {n}" for n, bit in (("a2", a), ("a1", b), ("a0", c)))]
        )
        for a, b, c in product((0, 1), repeat=3)
    }
    assert {frozenset(rule.split(" and ")) for rule in layer.rules(names)} == true and len(layer.rules()) == 8


def test_printed_states_of_a_solved_automaton_are_the_true_ones():
    task = automata.problem(1001, 400, 0.0)
    true = automata.machine(*automata.automaton(np.random.default_rng(1001)))
    layer = qa.AutomatonLayer(2, automata.MOST)
    optimizer = qa.AnnealingOptimizer(
        layer.parameters(),
        objective=qa.Objective(layer, torch.nn.functional.mse_loss, task[:2]),
        annealing=qa.RuleStep(**automata.OPTIONS),
    )
    optimizer.anneal()
    assert canonical(layer) == canonical(true) and len(layer.rules()) == automata.STATES


def test_the_overview_has_a_row_for_each_contender_of_rules():
    def record(task, contender, seed, solved, seconds):
        return {"task": task, "contender": contender, "seed": seed, "solved": solved, "cpu_s": seconds, "loss": 0.0}

    records = [record("automaton", "ours", seed, seed > 0, 0.5 * seed) for seed in range(3)]
    records += [record("rules_dnf", "tree", 0, False, 2.0)]
    lines = overview.rules(records).splitlines()
    assert lines[0] == "| contender | rules_dnf | automaton |"
    assert lines[2:4] == ["| tree | 0/1, 2 (2) |  |", "| ours |  | 2/3, 0.5 (1) |"]  # in the order of the tasks
    assert overview.rules([]) == "" and overview.readme(records) == overview.rules(records)
