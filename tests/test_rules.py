"""Rules: the layer, the exactness of its annealing, what the step does inside the optimizer, and bad input."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, cross_entropy, mse_loss

import qanneal_opt as qa
from qanneal_opt.steps.rule_search import LinearReadout, OrReadout, Rows, Search
from qanneal_opt.steps.rule_search import packed as pack
from qanneal_opt.steps.rule_tables import look, output_forced, rule_forced
from qanneal_opt.testing.steps import assert_step
from qanneal_opt.view import Best, View

QUICK = {"restarts": 3, "moves": 20_000}


def booleans(seed, rows, columns):
    return np.random.default_rng(seed).integers(0, 2, (rows, columns)).astype(bool)


def held(literals, values):
    """By the definition: a loop over rules, samples and literals."""
    out = np.zeros((len(literals), len(values)), bool)
    for k, row in enumerate(literals):
        for s, x in enumerate(values):
            out[k, s] = row.any() and all(x[i] if w > 0 else not x[i] for i, w in enumerate(row) if w)
    return out


def optimizer_of(model, data, loss=mse_loss, step=None, **options):
    return qa.AnnealingOptimizer(
        model.parameters(), objective=qa.Objective(model, loss, data), annealing=step or qa.RuleStep(**QUICK), **options
    )


def disjunction(seed=0, rows=200, columns=12, flipped=0.0):
    """Two rules of two literals; labels (N,)."""
    x = torch.from_numpy(booleans(seed, rows, columns)).float()
    y = torch.maximum(x[:, 3] * x[:, 7], x[:, 1] * (1 - x[:, 5]))
    flips = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < flipped
    return x, (y - flips.float()).abs()


TRUE = ["x1 and not x5", "x3 and x7"]


# The layer


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_packed_samples_hold_what_the_definition_says(rows):
    values, literals = booleans(1, rows, 5), np.random.default_rng(2).integers(-1, 2, (4, 5)).astype(np.int8)
    literals[3] = 0
    packed = Rows.of(values, np.ones(5, bool))
    assert (packed.truth(literals) == held(literals, values)).all()
    layer = qa.RuleLayer(5, 4).eval()
    layer.literals.copy_(torch.from_numpy(literals))
    inputs = torch.from_numpy(values).float()
    assert torch.equal(layer.activations(inputs), torch.from_numpy(held(literals, values).T).float())
    assert torch.equal(layer(inputs), torch.from_numpy(held(literals, values).any(0)).float())
    assert torch.equal(layer.train().activations(inputs), layer.eval().activations(inputs))  # exact at the corners


def test_gradients_reach_the_readout_the_thresholds_and_what_lies_below():
    torch.manual_seed(0)
    for layer in (qa.RuleLayer(3, 2, readout="linear", out_features=2, thresholds=2), qa.RuleLayer(3, 2, thresholds=1)):
        layer.literals.copy_(torch.randint(-1, 2, layer.literals.shape))
        layer.literals[0, 0] = 1
        model = nn.Sequential(nn.Linear(4, 3), layer)
        model(torch.randn(8, 4)).square().sum().backward()
        for name, p in model.named_parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_the_smooth_product_has_the_gradient_of_its_formula():
    layer = qa.RuleLayer(4, 3, readout="linear", dtype=torch.float64)
    layer.literals.copy_(torch.tensor([[1, -1, 0, 0], [0, 0, 1, 1], [-1, 0, 0, 1]]))
    inputs = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (inputs,))


def test_thresholds_decide_in_both_modes_and_have_the_gradient_of_a_smooth_step():
    layer, x = qa.RuleLayer(2, 1, readout="linear", thresholds=1, dtype=torch.float64), torch.tensor([[0.1, -0.3]])
    layer.literals[0] = torch.tensor([1, -1])
    with torch.no_grad():
        layer.coefficients.fill_(1.0)
    assert torch.equal(layer(x), layer.eval()(x)) and float(layer(x).detach()) == 1.0
    layer.train()(x).sum().backward()
    steps = (x[0].double() / 0.2).sigmoid()
    slopes = steps * (1 - steps) / 0.2
    assert torch.allclose(layer.thresholds.grad[:, 0], slopes * torch.tensor([-1.0, 1.0]))  # the other factor is 1


def test_thresholds_are_placed_at_quantiles_whatever_the_scale():
    x = torch.randn(999, 3, generator=torch.Generator().manual_seed(0)).exp() * torch.tensor([1e-3, 1.0, 1e4])
    x = torch.cat([x, torch.full((999, 1), 7.0)], 1)
    layer = qa.RuleLayer(4, 2, thresholds=3).eval()
    layer.place_thresholds(x)
    above = layer.values(x).mean(0).unflatten(0, (4, 3))
    assert torch.allclose(above[:3], torch.tensor([0.75, 0.5, 0.25]), atol=2e-3)
    assert torch.allclose(layer.thresholds[:, 1], torch.zeros(4)) and layer.thresholds.abs().max() < 3
    assert not above[3].any() and layer.thresholds.isfinite().all()
    layer.literals[0, 7] = 1
    assert layer.rules() == [f"x2 > {float(x[:, 2].median()):.4g}"]
    other = qa.RuleLayer(4, 2, thresholds=3)
    other.load_state_dict(layer.state_dict())
    assert other.rules() == layer.rules()


def test_a_threshold_that_no_rule_uses_any_more_goes_back_to_where_it_was():
    layer = qa.RuleLayer(3, 2, thresholds=1)
    with torch.no_grad():
        layer.thresholds.copy_(torch.tensor([[0.5], [1.0], [-2.0]]))  # a user's own
    layer.literals[0, :2] = 1
    layer.recall_thresholds()
    assert layer.thresholds[:, 0].tolist() == [0.5, 1.0, -2.0]
    with torch.no_grad():
        layer.thresholds.add_(3.0)
    layer.literals[0, 1] = 0
    layer.recall_thresholds()
    assert layer.thresholds[:, 0].tolist() == [3.5, 1.0, 1.0]  # in use, not any more, and never
    layer.place_thresholds(torch.randn(50, 3))
    placed = layer.thresholds.detach().clone()
    layer.recall_thresholds()
    assert torch.equal(layer.thresholds, placed)


def test_annealing_sees_a_threshold_out_of_use_where_it_was():
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0))
    layer = qa.RuleLayer(2, 2, thresholds=1)
    layer.place_thresholds(x)
    placed, optimizer = layer.thresholds.detach().clone(), optimizer_of(layer, (x, (x[:, 0] > 0.5).float()))
    optimizer.anneal()
    assert "x0 > 0." in layer.rules()[0] and layer.home[0] == placed[0]
    with torch.no_grad():
        layer.thresholds.fill_(9.0)
    layer.literals.zero_()
    optimizer.anneal()
    assert layer.thresholds[0] == placed[0] and "x0 > 0." in layer.rules()[0]


def test_an_or_gives_probabilities_in_train_mode_and_bits_in_eval_mode():
    layer, (x, y) = qa.RuleLayer(12, 2), disjunction()
    layer.literals[0, 3] = 1
    trained = layer(x)
    assert ((trained > 0) & (trained < 1)).all()
    binary_cross_entropy(trained, y).backward()
    assert layer.flips.flipped.grad.isfinite() and layer.flips.flipped.grad != 0
    assert set(layer.eval()(x).tolist()) == {0.0, 1.0}


def test_the_layer_saves_moves_and_shows_its_rules():
    layer = qa.RuleLayer(2, 3, readout="linear", out_features=2, thresholds=2)
    layer.literals[1] = torch.tensor([0, 1, -1, 0])
    with torch.no_grad():
        layer.thresholds.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
        layer.coefficients.copy_(torch.tensor([[0.0, 1.5, 0.0], [0.0, -2.0, 0.0]]))
    assert layer.rules(["a", "b"]) == ["+1.5, -2 if a > 1 and b <= 2"]
    other = qa.RuleLayer(2, 3, readout="linear", out_features=2, thresholds=2)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert other.rules() == layer.rules() and other.literals.dtype == torch.int8
    assert copy.deepcopy(layer).double()(torch.zeros(1, 2)).dtype == torch.float64
    meta = qa.RuleLayer(2, 3, device="meta")
    assert meta.literals.device.type == meta.flips.flipped.device.type == "meta"


def test_the_plot_shows_literals_in_use():
    pytest.importorskip("matplotlib").use("Agg")
    layer = qa.RuleLayer(3, 2)
    layer.literals[0] = torch.tensor([1, 0, -1])
    axes = layer.plot(["a", "b", "c"])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "c"]
    assert axes.images[0].get_array().tolist() == [[1, -1]]


def solved(readout, dtype=torch.float32):
    """A layer that was annealed, and its inputs and targets."""
    x, y = disjunction()
    targets = y if readout == "or" else (2 * x[:, 3] * x[:, 7] - 1.5 * x[:, 1])[:, None]
    layer = qa.RuleLayer(12, 4, readout=readout, dtype=dtype)
    optimizer_of(layer, (x.to(dtype), targets.to(dtype))).anneal()
    return layer.eval(), x.to(dtype), targets.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("readout", ["or", "linear"])
def test_rules_are_found_in_other_dtypes(readout, dtype):
    layer, x, targets = solved(readout, dtype)
    assert sorted(layer.rules()) == (TRUE if readout == "or" else ["+2 if x3 and x7", "-1.5 if x1"])
    assert layer(x).dtype == dtype and torch.allclose(layer(x), targets, atol=1e-6)
    assert layer.train()(x).dtype == dtype
    with pytest.raises(ValueError, match=r"Invalid inputs: 0\.999"):
        layer.eval()(torch.full((1, 12), 0.999))  # which is 1 in bfloat16


@pytest.mark.parametrize("readout", ["or", "linear"])
def test_found_rules_survive_copies_and_files(readout, tmp_path):
    layer, x, _ = solved(readout)
    torch.save(layer.state_dict(), tmp_path / "state.pt")
    torch.save(layer, tmp_path / "layer.pt")
    loaded = qa.RuleLayer(12, 4, readout=readout)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt"))
    for other in (loaded.eval(), torch.load(tmp_path / "layer.pt", weights_only=False), copy.deepcopy(layer)):
        assert other.rules() == layer.rules() and torch.equal(other(x), layer(x))
    assert layer.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16 and layer.literals.dtype == torch.int8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qa.RuleLayer(3, 0), "Invalid rules: 0; an int of at least 1"),
        (lambda: qa.RuleLayer(0, 1), "Invalid in_features: 0"),
        (lambda: qa.RuleLayer(3, 1, readout="and"), "Invalid readout: 'and'"),
        (lambda: qa.RuleLayer(3, 1, out_features=2), "Invalid out_features: 2"),
        (lambda: qa.RuleLayer(3, 1, thresholds=-1), "Invalid thresholds: -1"),
        (lambda: qa.RuleLayer(3, 1).eval()(torch.tensor([[0.0, 0.5, 1.0]])), "Invalid inputs: 0.5; 0 or 1"),
        (lambda: qa.RuleLayer(3, 1)(torch.tensor([[0.0, float("nan"), 1.0]])), "Invalid inputs: nan"),
        (lambda: qa.RuleLayer(1, 1, thresholds=1)(torch.tensor([[float("nan")]])), "Invalid inputs: nan"),
        (lambda: qa.RuleLayer(3, 1)(torch.zeros(4, 2)), r"Invalid inputs: shape \(4, 2\)"),
        (lambda: qa.RuleLayer(3, 1).place_thresholds(torch.zeros(4, 3)), "Invalid thresholds: 0"),
        (
            lambda: qa.RuleLayer(3, 1, thresholds=1).place_thresholds(torch.zeros(1, 3)),
            r"Invalid inputs: shape \(1, 3\)",
        ),
        (lambda: qa.RuleLayer(1, 1, thresholds=1).place_thresholds(torch.tensor([[0.0], [torch.inf]])), "finite"),
        (lambda: qa.RuleLayer(3, 1).rules(["a"]), "Invalid names: 1 of them; 3"),
        (lambda: qa.RuleStep(l0=-1.0), "Invalid l0: -1.0"),
        (lambda: qa.RuleStep(restarts=0), "Invalid restarts: 0"),
        (lambda: qa.RuleStep(moves=1.5), "Invalid moves: 1.5"),
        (lambda: qa.RuleStep(temperature=-1.0), "Invalid temperature: -1.0"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The search


def readouts(seed, values):
    rng, truth = np.random.default_rng(seed), held(np.array([[1, -1] + [0] * (values.shape[1] - 2)]), values)[0]
    yield OrReadout(rng.normal(size=len(values)))
    yield OrReadout(rng.integers(-1, 2, len(values)).astype(float))
    targets = np.stack([truth + 0.3 * rng.normal(size=len(values)), rng.normal(size=len(values))])
    yield LinearReadout(targets)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("rows", [40, 130])
def test_the_energy_that_moves_add_up_to_is_the_exact_one(rows, temperature, monkeypatch):
    from qanneal_opt.steps import kernels_rules

    values, inner, told = booleans(3, rows, 7), kernels_rules.anneal, []
    monkeypatch.setattr(kernels_rules, "anneal", lambda *arguments: told.append(inner(*arguments)) or told[-1])
    packed = Rows.of(values, np.zeros(7, bool))
    start = np.random.default_rng(5).integers(-1, 2, (4, 7)).astype(np.int8)

    def energy(readout, literals):
        return readout.energy(held(literals, values)) + 0.3 * np.count_nonzero(literals)

    for readout in readouts(4, values):
        chain = Search(1, 3000, [temperature] * 10, 0.3, 1)._chain(packed, readout, start)
        found = chain(0, np.uint64(7))
        lowest, accepted = told[-1]
        exact = energy(readout, found.literals)
        assert found.energy == pytest.approx(exact, abs=1e-6) and accepted > 0
        # A linear readout's least squares are taken unit by unit while it anneals, and all together at the end.
        slack = 0.02 * rows if isinstance(readout, LinearReadout) else 1e-3
        assert -1e-3 <= energy(readout, start) + lowest - exact <= slack


@pytest.fixture(scope="module")
def judge():
    """Compiled: (chain, whether it regresses, j, held, price) -> the change, and what it is bounded by from below."""
    import numba

    from qanneal_opt.steps import kernels_readouts as kernels
    from qanneal_opt.steps.kernels_units import rebuild

    @numba.njit
    def change(units, cover, linear, columns, valid, regress, j, held, price, sets):
        for k in range(len(units.literals)):
            rebuild(units, columns, valid, k)
        if regress:
            kernels.overlaps(units, linear)
            found = [kernels.linear_change(units, linear, j, held, price, bar) for bar in (np.inf, -np.inf)]
        else:
            kernels.cover(units, cover)
            found = [kernels.or_change(units, cover, j, held, price, bar, sets) for bar in (np.inf, -np.inf)]
        return found[0], found[1]

    return change


@pytest.mark.parametrize("rows", [40, 130])
def test_a_move_is_rejected_early_only_by_a_lower_bound_of_its_change(rows, judge, monkeypatch):
    from qanneal_opt.steps import kernels_rules

    values, states = booleans(3, rows, 7), []
    monkeypatch.setattr(kernels_rules, "anneal", lambda *arguments: states.append(arguments) or (0.0, 0))
    samples, rng = Rows.of(values, np.zeros(7, bool)), np.random.default_rng(5)
    for turn in range(30):
        start = rng.integers(-1, 2, (4, 7)).astype(np.int8) * (rng.random((4, 7)) < 0.5)
        row = rng.integers(-1, 2, 7).astype(np.int8) * (rng.random(7) < 0.4)
        for readout in readouts(turn, values):
            Search(1, 10, [1.0], 0.3, 1)._chain(samples, readout, start)(0, np.uint64(7))
            columns, valid, units, cover, linear, *_, sets, _, _, _ = states[-1]
            moved, j = start.copy(), int(rng.integers(4))
            moved[j] = row
            regress, truth = isinstance(readout, LinearReadout), pack(samples.truth(row[None])[0])
            exact, bound = judge(units, cover, linear, columns, valid, regress, j, truth, 0.7, sets)
            assert bound <= exact + 1e-4
            if not regress:
                after, before = readout.energy(held(moved, values)), readout.energy(held(start, values))
                assert exact == pytest.approx(0.7 + after - before, abs=1e-4)


def test_all_readouts_and_starts_are_served_by_one_compilation():
    from qanneal_opt.steps.kernels_rules import anneal

    values = booleans(6, 50, 3)
    for readout in readouts(8, values):
        Search(2, 20, [1.0], 0.1, 1)(Rows.of(values, np.zeros(3, bool)), readout, np.zeros((2, 3), np.int8), 0)
    assert len(anneal.signatures) == 1


def test_the_best_of_all_literals_is_found_in_small_problems():
    values = booleans(6, 50, 3)
    packed = Rows.of(values, np.zeros(3, bool))
    every = [np.array(row, np.int8).reshape(2, 3) for row in product((-1, 0, 1), repeat=6)]
    for readout in readouts(8, values):
        for l0 in (0.05, 0.8):
            search = Search(4, 4000, np.geomspace(1, 0.05, 20).tolist(), l0, 1)
            found = search(packed, readout, np.zeros((2, 3), np.int8), 0)
            least = min(readout.energy(held(w, values)) + l0 * np.count_nonzero(w) for w in every)
            assert found.energy == pytest.approx(least, abs=1e-9)


def test_the_start_is_never_lost_and_threads_change_nothing():
    values = booleans(9, 90, 8)
    packed, readout = Rows.of(values, np.zeros(8, bool)), OrReadout(np.random.default_rng(1).normal(size=90))
    start = Search(8, 20_000, np.geomspace(1, 0.05, 50).tolist(), 0.1, 1)(packed, readout, np.zeros((3, 8), np.int8), 1)
    short = [Search(6, 100, [5.0], 0.1, threads)(packed, readout, start.literals, 2) for threads in (1, 2, 5)]
    assert all(one.energy <= start.energy for one in short)
    assert all((one.literals == short[0].literals).all() and one[1:] == short[0][1:] for one in short)


def test_memory_is_bit_packed():
    packed = Rows.of(booleans(0, 6400, 30), np.zeros(30, bool))
    assert packed.columns.nbytes <= (6400 + 511) * 30 / 8  # whole blocks of 512 samples


# The step


def test_printed_rules_of_a_solved_task_are_the_true_ones():
    layer = qa.RuleLayer(12, 5)
    record = optimizer_of(layer, disjunction()).anneal()
    assert sorted(layer.rules()) == TRUE
    assert record.strategy == "rules" and record.accepted > 0 and record.moved == 4
    assert record.loss_after < record.loss_before


@pytest.mark.parametrize("loss", [mse_loss, binary_cross_entropy])
def test_flipped_labels_are_not_learned(loss):
    layer = qa.RuleLayer(12, 5)
    optimizer_of(layer, disjunction(rows=400, flipped=0.1), loss).anneal()
    assert sorted(layer.rules()) == TRUE


def test_a_linear_readout_gets_its_least_squares():
    x, _ = disjunction()
    y = torch.stack([2 * x[:, 3] * x[:, 7] - 1.5 * x[:, 1] + 0.5, x[:, 1] - 1], 1)
    layer = qa.RuleLayer(12, 4, readout="linear", out_features=2)
    optimizer_of(layer, (x, y)).anneal()
    assert len(layer.rules()) == 2 and float(mse_loss(layer.eval()(x), y).detach()) < 1e-8


def test_tables_are_the_objective_with_the_output_forced():
    torch.manual_seed(0)
    x, y = disjunction(rows=50)
    lower, upper = qa.RuleLayer(12, 3, readout="linear", out_features=2), qa.RuleLayer(2, 2, thresholds=2)
    lower.literals.copy_(torch.randint(-1, 2, lower.literals.shape))
    upper.literals[0] = torch.tensor([1, 0, 0, -1])
    model = nn.Sequential(lower, upper)
    weights = torch.rand(50)
    objective = qa.Objective(model, mse_loss, (x, y), batch_size=20, weights=weights)
    model.eval()
    assert float(look(objective, lower).losses.sum()) == pytest.approx(float(objective()), rel=1e-5)
    for value in (0.0, 1.0):
        expected = ((y - value).square() * weights / weights.sum()).double()
        assert torch.allclose(look(objective, upper, output_forced(value)).losses, expected)
        held_at = lower.activations(x)
        held_at[:, 1] = value
        outputs = upper(nn.functional.linear(held_at, lower.coefficients, lower.bias))
        expected = ((y - outputs).square() * weights / weights.sum()).double().detach()
        assert torch.allclose(look(objective, lower, rule_forced(lower, 1, value)).losses, expected)


def above(seed):
    """Rules between thresholds that are trained and a classifier."""
    torch.manual_seed(seed)
    return nn.Sequential(qa.RuleLayer(4, 6, readout="linear", out_features=3, thresholds=1), nn.Tanh(), nn.Linear(3, 3))


def classes():
    x = torch.randn(150, 4, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long() + ((x[:, 1] > 0) & (x[:, 2] > 0)).long()


def test_rules_between_trained_parts_are_found():
    model = above(0)
    optimizer = optimizer_of(model, classes(), cross_entropy, schedule=qa.Every(20), lr=1e-2)
    before = float(optimizer.objective())
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(classes()[0]), classes()[1]).backward()
        optimizer.step()
    assert len(optimizer.records) == 5 and model[0].rules()
    assert float(optimizer.objective()) < 0.3 * before


def test_several_layers_are_annealed_in_turn():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = qa.RuleLayer(12, 1), qa.RuleLayer(12, 1)

        def forward(self, x):
            return self.left(x) + 2 * self.right(x)

    x, _ = disjunction()
    model = Both()
    optimizer = optimizer_of(model, (x, x[:, 3] * x[:, 7] + 2 * x[:, 1] * (1 - x[:, 5])))
    for _ in range(3):
        optimizer.anneal()
    assert [model.left.rules(), model.right.rules()] == [["x3 and x7"], ["x1 and not x5"]]


def problem(step):
    model = above(0)
    return optimizer_of(model, classes(), cross_entropy, step, seed=3)


def disjunct(step):
    """Rules whose output is the model's, some of them there from the start."""
    layer = qa.RuleLayer(12, 4)
    layer.literals[0, :3] = 1
    return optimizer_of(layer, disjunction(flipped=0.1), step=step, seed=4)


def weigh(step):
    x, _ = disjunction()
    torch.manual_seed(0)
    layer = qa.RuleLayer(12, 3, readout="linear")
    layer.literals[1, :2] = -1
    return optimizer_of(layer, (x, (2 * x[:, 3] * x[:, 7] - x[:, 1])[:, None]), step=step, seed=5)


def weigh_unlike(step):
    """Two outputs, of which the one that is a hundred times larger is noise."""
    x, y = disjunction()
    torch.manual_seed(2)
    noise = 100 * torch.randn(200)
    layer = qa.RuleLayer(12, 3, readout="linear", out_features=2)
    layer.literals[1, :2] = -1
    return optimizer_of(layer, (x, torch.stack([y, noise], 1)), step=step, seed=6)


@pytest.mark.parametrize("make", [problem, disjunct, weigh, weigh_unlike])
@pytest.mark.parametrize("l0", ["auto", 0.0, 2.0])
@pytest.mark.parametrize("temperature", [0.0, (1.0, 0.1)])
def test_the_step_is_a_step(make, l0, temperature):
    assert_step(qa.RuleStep(l0=l0, restarts=2, moves=600, temperature=temperature), make=make)


def test_a_record_tells_what_literals_cost():
    optimizer = disjunct(qa.RuleStep(l0=2.0, restarts=2, moves=600))
    layer, objective = optimizer.objective.model, optimizer.objective
    before, price = float(objective()), 2.0 / 200  # of errors in a mean over 200 samples
    record = optimizer.anneal()
    count, after = int(layer.literals.count_nonzero()), float(objective())
    assert (record.price_before, record.price_after) == pytest.approx((3 * price, count * price))
    assert (record.loss_before, record.loss_after) == pytest.approx((before + 3 * price, after + count * price))
    assert record.actual == record.predicted == pytest.approx(record.loss_after - record.loss_before)


def test_an_annealing_step_never_raises_what_it_judges():
    model = above(1)
    optimizer = optimizer_of(model, classes(), cross_entropy)
    for _ in range(3):
        record = optimizer.anneal()
        assert record.loss_after <= record.loss_before + 1e-6


def test_a_resumed_run_goes_on_bit_for_bit():
    def run(model, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(classes()[0]), classes()[1]).backward()
            optimizer.step()

    def build(seed):
        model = above(seed)
        return model, optimizer_of(model, classes(), cross_entropy, schedule=qa.Every(3), lr=1e-2)

    model, optimizer = build(0)
    run(model, optimizer, 4)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    run(model, optimizer, 4)
    other, resumed = build(5)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    run(other, resumed, 4)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


def test_a_best_state_holds_the_literals_too():
    class Spoil:
        """Judges the state it finds, then spoils rules and weights."""

        name = "spoil"

        def __call__(self, view, objective, generator):
            loss, _ = view.begin(lambda: float(objective()))
            view.consider(loss)
            for module in objective.model.modules():
                if isinstance(module, qa.RuleLayer):
                    module.literals.fill_(1)
            return qa.AnnealRecord(view.step, self.name, loss_before=loss, loss_after=loss)

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    layer = qa.RuleLayer(12, 5)
    optimizer = optimizer_of(layer, disjunction(), step=[qa.RuleStep(**QUICK), Spoil()])
    optimizer.anneal()
    optimizer.anneal()
    assert sorted(layer.rules()) == TRUE


def test_a_best_state_that_is_forgotten_restores_no_buffer():
    buffer = torch.zeros(2)
    best = Best(loss=1.0, buffers=[torch.ones(2)])
    best.forget()
    View([], [], [buffer], best=best).restore(best)
    assert not buffer.any()


# Trivial and impossible data


def test_one_class_contradictions_and_constant_columns():
    x, y = disjunction()
    for value in (0.0, 1.0):
        layer = qa.RuleLayer(12, 2)
        optimizer_of(layer, (x, torch.full_like(y, value))).anneal()
        assert torch.equal(layer.eval()(x), torch.full_like(y, value))
        assert value or layer.rules() == []
    x[:, 0], x[:, 2] = 0.0, 1.0
    layer = qa.RuleLayer(12, 4)
    optimizer_of(layer, (torch.cat([x, x[:20]]), torch.cat([y, 1 - y[:20]]))).anneal()
    assert sorted(layer.rules()) == TRUE
    flat = qa.RuleLayer(3, 2)
    optimizer_of(flat, (torch.ones(9, 3), torch.tensor([1.0] * 6 + [0.0] * 3))).anneal()
    assert flat.eval()(torch.ones(1, 3)) == 1
    constant = qa.RuleLayer(12, 2, readout="linear")
    optimizer_of(constant, (x, torch.full((200, 1), 3.5))).anneal()
    assert constant.rules() == [] and torch.allclose(constant.eval()(x), torch.tensor(3.5))


def test_a_linear_readout_of_contradictions_and_constant_columns():
    x, _ = disjunction()
    x[:, 0], x[:, 2] = 0.0, 1.0
    y = (2 * x[:, 3] * x[:, 7])[:, None]
    layer = qa.RuleLayer(12, 3, readout="linear")
    data = torch.cat([x, x]), torch.cat([y - 0.5, y + 0.5])
    optimizer_of(layer, data, step=qa.RuleStep(moves=20_000, temperature=(3.0, 0.3))).anneal()
    assert layer.rules() == ["+2 if x3 and x7"] and torch.allclose(layer.eval()(x), y, atol=1e-5)
    flat = qa.RuleLayer(3, 2, readout="linear")
    optimizer_of(flat, (torch.ones(4, 3), torch.tensor([[0.0], [1.0], [2.0], [3.0]]))).anneal()
    assert flat.rules() == [] and flat.eval()(torch.ones(1, 3)) == 1.5


@pytest.mark.parametrize("readout", ["or", "linear"])
def test_targets_that_are_nan_move_nothing(readout):
    x, y = disjunction()
    y[5] = float("nan")
    layer = qa.RuleLayer(12, 3, readout=readout)
    record = optimizer_of(layer, (x, y if readout == "or" else y[:, None])).anneal()
    assert "nan" in record.fallback and not layer.literals.any()


class Repeat(nn.Module):
    def forward(self, x):
        return x.expand(200)


def test_what_cannot_be_annealed_is_an_error_before_anything_moves():
    x, y = disjunction()
    layer = qa.RuleLayer(12, 1)
    with pytest.raises(ValueError, match="Invalid rules: 1; every sample"):
        optimizer_of(layer, (x, torch.ones_like(y))).anneal()
    broken = x.clone()
    broken[3, 4] = float("nan")
    with pytest.raises(ValueError, match="Invalid inputs: nan"):
        optimizer_of(layer, (broken, y)).anneal()
    with pytest.raises(ValueError, match=r"Invalid inputs: 0\.25"):
        optimizer_of(layer, (x / 4, y)).anneal()
    plain = nn.Linear(12, 1)
    with pytest.raises(ValueError, match="Invalid annealing"):
        optimizer_of(plain, (x, y[:, None]))
    with pytest.raises(ValueError, match="this step moves nothing else"):
        optimizer_of(layer, (x, y), step=qa.DirectStep()).anneal()
    twice = nn.Sequential(layer, nn.Unflatten(0, (1, -1)), qa.RuleLayer(200, 2), nn.Flatten(0), Repeat())
    with pytest.raises(ValueError, match="Invalid model: it calls a RuleLayer with rows"):
        optimizer_of(twice, (x, y)).anneal()
    assert not layer.literals.any()
    later = nn.Sequential(qa.RuleLayer(12, 3), ByName(qa.RuleLayer(12, 3)))
    later.forward = lambda x: torch.maximum(later[0](x), torch.maximum(later[1](x), later[1](1 - x)))
    with pytest.raises(ValueError, match=r"with rows \[200, 200\]"):
        optimizer_of(later, (x, y)).anneal()
    assert not later[0].literals.any()


class ByName(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(inputs=x)


def test_a_layer_may_be_called_by_keyword():
    x, y = disjunction()
    layer = qa.RuleLayer(12, 4)
    optimizer_of(ByName(layer), (x, y)).anneal()
    assert sorted(layer.rules()) == TRUE and sorted(layer.rules(range(12))) == ["1 and not 5", "3 and 7"]
    layer = qa.RuleLayer(12, 4)
    optimizer_of(layer, ({"inputs": x}, y)).anneal()
    assert sorted(layer.rules()) == TRUE


class Classes(nn.Module):
    def forward(self, x):
        return 4 * torch.stack([1 - x, x], -1)


def test_a_loss_that_is_no_mean_over_samples_is_an_error_and_weights_of_samples_serve():
    x, _ = disjunction(columns=8)
    model = nn.Sequential(qa.RuleLayer(8, 3), Classes())
    labels, shares = (x[:, 3] * x[:, 7]).long(), torch.tensor([1.0, 5.0])
    for loss in (nn.CrossEntropyLoss(weight=shares), lambda o, t: cross_entropy(o, t, reduction="sum")):
        with pytest.raises(ValueError, match=r"Invalid loss: .*a mean over samples is needed"):
            optimizer_of(model, (x, labels), loss=loss).anneal()
    assert not model[0].literals.any()
    objective = qa.Objective(model, cross_entropy, (x, labels), weights=shares[labels])
    step = qa.RuleStep(restarts=2, moves=5_000)
    optimizer = qa.AnnealingOptimizer(model.parameters(), objective=objective, annealing=step)
    assert optimizer.anneal().actual < 0 and model[0].rules() == ["x3 and x7"]


def test_a_frozen_readout_stays_and_literals_are_found_for_it():
    x, _ = disjunction()
    layer = qa.RuleLayer(12, 2, readout="linear")
    with torch.no_grad():
        layer.coefficients.copy_(torch.tensor([[1.5, -0.75]]))
    layer.requires_grad_(False)
    layer.bias.requires_grad_(True)
    optimizer = qa.AnnealingOptimizer(
        [layer.bias],
        objective=qa.Objective(layer, mse_loss, (x, (2 * x[:, 3] * x[:, 7] - x[:, 1])[:, None])),
        annealing=qa.RuleStep(**QUICK),
    )
    for _ in range(3):
        optimizer.anneal()
    assert layer.coefficients.tolist() == [[1.5, -0.75]]
    assert layer.rules() == ["+1.5 if x3 and x7", "-0.75 if x1"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_thresholds_are_made_in_half_precision_too(dtype):
    layer = qa.RuleLayer(3, 2, thresholds=3, dtype=dtype)
    expected = qa.RuleLayer(3, 2, thresholds=3).thresholds
    assert layer.thresholds.dtype == dtype and torch.equal(layer.thresholds, expected.to(dtype))
