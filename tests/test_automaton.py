"""Automata: the layer by its definition, the tree of prefixes, and what annealing finds."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy, mse_loss

import qanneal_opt as qa
from qanneal_opt.steps.automaton_layer import prefixes
from qanneal_opt.testing.steps import assert_step

PARITY = ["0: 0 to 0, 1 to 1", "1 (output 1): 0 to 1, 1 to 0"]


def read(layer, sequence):
    """By the definition."""
    q = 0
    for symbol in sequence:
        q = q if symbol == -1 else int(layer.table[q, symbol])
    return float(layer.outputs[q])


def sequences(seed, count, length, symbols=2):
    """(N, L), padded with -1."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, symbols, (count, length))
    x[np.arange(length) >= rng.integers(1, length + 1, count)[:, None]] = -1
    return torch.from_numpy(x)


def optimizer_of(layer, x, y, step=None, loss=mse_loss):
    step = step or qa.RuleStep(restarts=5, moves=20_000)
    return qa.AnnealingOptimizer(layer.parameters(), objective=qa.Objective(layer, loss, (x, y)), annealing=step)


def odd(x):
    return ((x == 1).sum(1) % 2).float()


def test_the_layer_reads_as_defined():
    torch.manual_seed(0)
    layer, x = qa.AutomatonLayer(3, 4).eval(), sequences(0, 30, 7, 3)
    layer.table[:], layer.outputs[:] = torch.randint(4, (4, 3)), torch.randint(2, (4,)).bool()
    assert layer(x).tolist() == [read(layer, row) for row in x.tolist()]
    binary_cross_entropy(layer.train()(x), torch.ones(30)).backward()
    assert layer.flips.flipped.grad.isfinite()


def test_a_tree_of_prefixes_holds_every_sequence_once():
    x, gains = sequences(1, 40, 5).numpy(), np.random.default_rng(1).normal(size=40)
    parent, symbol, ends = prefixes(x, 2, gains)
    words = [()]
    for k in range(1, len(parent)):
        assert parent[k] < k
        words.append((*words[parent[k]], int(symbol[k])))
    given = [tuple(a for a in row if a != -1) for row in x.tolist()]
    assert set(words) == {word[:k] for word in given for k in range(len(word) + 1)} and len(set(words)) == len(words)
    for word, total in zip(words, ends):
        assert total == pytest.approx(sum(gain for one, gain in zip(given, gains) if one == word))


def test_the_compiled_energy_is_the_least_over_all_outputs():
    from qanneal_opt.steps.kernels_automaton import anneal

    x, gains = sequences(2, 60, 6), np.random.default_rng(2).normal(size=60)
    tree = prefixes(x.numpy(), 2, gains)
    table, ends = np.random.default_rng(3).integers(0, 3, (3, 2)).astype(np.uint32), np.flatnonzero(tree[2])
    scratch, best = (np.zeros(len(tree[0]), np.uint32), np.zeros(3)), table.copy()
    tree = *(part.astype(np.uint32) for part in (*tree[:2], ends)), tree[2][ends]
    energy, made, accepted = anneal(table, *tree, np.array([1.0, 0.1]), 200, -np.inf, np.uint64(5), *scratch, best)
    layer = qa.AutomatonLayer(2, 3).eval()
    layer.table[:] = torch.from_numpy(best.astype(np.int64))
    least = np.inf
    for outputs in product((False, True), repeat=3):
        layer.outputs[:] = torch.tensor(outputs)
        least = min(least, float(gains[layer(x).bool().numpy()].sum()))
    assert energy == pytest.approx(least) and made == 400 and 0 < accepted < 400


@pytest.mark.parametrize("flipped", [0.0, 0.1])
def test_the_true_automaton_is_found_with_its_number_of_states(flipped):
    x = sequences(3, 300, 10)
    y = odd(x)
    flips = torch.rand(300, generator=torch.Generator().manual_seed(0)) < flipped
    layer = qa.AutomatonLayer(2, 6)
    record = optimizer_of(layer, x, (y - flips.float()).abs()).anneal()
    assert layer.rules() == PARITY
    assert record.loss_after < record.loss_before and record.moved > 0


def test_threads_change_nothing():
    x, found = sequences(4, 200, 8), []
    for threads in (1, 3):
        layer = qa.AutomatonLayer(2, 5)
        optimizer_of(layer, x, (odd(x) > 0).float(), qa.RuleStep(restarts=4, moves=2000, threads=threads)).anneal()
        found.append(layer.table.tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("temperature", [0.0, (2.0, 0.3)])
def test_the_step_is_a_step(temperature):
    x = sequences(5, 100, 8)
    step = qa.RuleStep(restarts=2, moves=2000, temperature=temperature)
    assert_step(step, make=lambda step: optimizer_of(qa.AutomatonLayer(2, 4), x, odd(x), step))


@pytest.mark.parametrize("l0", ["auto", 0.0, 1.0])
def test_what_states_cost_is_in_what_is_judged(l0):
    x = sequences(7, 120, 8)
    y = (torch.rand(120, generator=torch.Generator().manual_seed(1)) < 0.5).float()  # nothing to be learned

    def make(step):
        layer = qa.AutomatonLayer(2, 6)
        layer.table[:] = torch.randint(6, (6, 2), generator=torch.Generator().manual_seed(2))
        layer.outputs[::2] = True
        return optimizer_of(layer, x, y, step)

    step = qa.RuleStep(l0=l0, restarts=2, moves=3000, temperature=0.0)
    assert_step(step, make=make)
    record = make(step).anneal()
    assert record.loss_after < record.loss_before and (record.price_after > 0) == (l0 != 0.0)


def test_one_class_takes_one_state():
    x = sequences(6, 50, 5)
    for value in (0.0, 1.0):
        layer = qa.AutomatonLayer(2, 4)
        optimizer_of(layer, x, torch.full((50,), value)).anneal()
        assert layer.rules() == [f"0{' (output 1)' if value else ''}: 0 to 0, 1 to 0"]


def test_contradictions_constant_strings_and_empty_ones():
    x = sequences(8, 300, 8)
    layer = qa.AutomatonLayer(2, 4)
    optimizer_of(layer, torch.cat([x, x[:30]]), torch.cat([odd(x), 1 - odd(x[:30])])).anneal()
    assert layer.rules() == PARITY
    for strings in (torch.ones(9, 4, dtype=torch.int64), torch.full((9, 4), -1), torch.zeros(9, 0)):
        layer = qa.AutomatonLayer(2, 4)
        optimizer_of(layer, strings, torch.tensor([1.0] * 6 + [0.0] * 3)).anneal()  # nothing tells them apart
        assert layer.rules() == ["0 (output 1): 0 to 0, 1 to 0"] and layer.eval()(strings).tolist() == [1.0] * 9


def test_batches_of_a_loader_may_have_lengths_of_their_own():
    x = sequences(8, 300, 9)
    batches = [(part[:, :length], odd(part[:, :length])) for part, length in zip(x.split(50), (3, 9, 1, 7, 9, 5))]
    layer = qa.AutomatonLayer(2, 4)
    objective = qa.Objective(layer, mse_loss, torch.utils.data.DataLoader(batches, batch_size=None))
    step = qa.RuleStep(restarts=4, moves=20_000)
    qa.AnnealingOptimizer(layer.parameters(), objective=objective, annealing=step).anneal()
    assert layer.rules() == PARITY


def test_targets_that_are_nan_move_nothing():
    x = sequences(9, 20, 5)
    y = odd(x)
    y[3] = float("nan")
    layer = qa.AutomatonLayer(2, 3)
    record = optimizer_of(layer, x, y).anneal()
    assert "nan" in record.fallback and not layer.table.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_automaton_in_other_dtypes_survives_copies_and_files(dtype, tmp_path):
    x = sequences(3, 300, 10)
    layer = qa.AutomatonLayer(2, 4, dtype=dtype)
    optimizer_of(layer, x, odd(x).to(dtype)).anneal()
    torch.save(layer.eval().state_dict(), tmp_path / "state.pt")
    torch.save(layer, tmp_path / "layer.pt")
    loaded = qa.AutomatonLayer(2, 4, dtype=dtype).eval()
    loaded.load_state_dict(torch.load(tmp_path / "state.pt"))
    for other in (layer, loaded, torch.load(tmp_path / "layer.pt", weights_only=False), copy.deepcopy(layer)):
        assert other.rules() == PARITY and torch.equal(other(x), odd(x).to(dtype)) and other(x).dtype == dtype
    assert layer.float()(x).dtype == torch.float32 and layer.table.dtype == torch.int64
    assert layer.train()(x.float()).requires_grad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qa.AutomatonLayer(0, 3), "Invalid symbols: 0"),
        (lambda: qa.AutomatonLayer(2, 0), "Invalid states: 0"),
        (lambda: qa.AutomatonLayer(2, 2)(torch.tensor([[0, 2]])), "Invalid inputs: 2; integers from -1 to 1"),
        (lambda: qa.AutomatonLayer(2, 2)(torch.tensor([[0.5, 1.0]])), r"Invalid inputs: 0\.5"),
        (lambda: qa.AutomatonLayer(2, 2)(torch.tensor([[0.0, float("nan")]])), "Invalid inputs: nan"),
        (lambda: qa.AutomatonLayer(2, 2)(torch.tensor([0, 1])), "Invalid inputs: shape"),
        (lambda: qa.AutomatonLayer(2, 2).rules("abc"), "Invalid names: 3 of them; 2"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
