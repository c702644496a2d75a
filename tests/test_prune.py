"""Pruning: choices against enumeration, exact numbers, OBS against the letter of the paper, patterns, bad input."""

import itertools
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.compress.choice import Choice
from qanneal_opt.compress.magnitude import by_magnitude
from qanneal_opt.compress.obs import by_obs
from qanneal_opt.compress.swaps import by_qubo, descended, penalised, repaired
from qanneal_opt.curvature.ggn import ggn
from qanneal_opt.samplers import resolve
from qanneal_opt.samplers.exact import all_bits
from qanneal_opt.subset import Subset
from tests.toys import INPUTS, TARGETS, net, same, weights


def objective(model, inputs=INPUTS, targets=TARGETS, **options):
    return qa.Objective(model, functional.cross_entropy, (inputs, targets), **options)


def choice(n, seed, keep, *, units=None, cells=1, trained=False):
    """A random problem of n weights; ``units`` of equal size, ``cells`` of equal size with ``keep`` kept in each."""
    generator = torch.Generator().manual_seed(seed)
    J = torch.randn(2 * n, n, generator=generator, dtype=torch.float64)
    w, g = torch.randn(2, n, generator=generator, dtype=torch.float64)
    m = units or n
    cell = torch.arange(m) * cells // m
    quota = torch.full((cells,), keep)
    return Choice(w, g * (not trained), J.T @ J / n, torch.arange(n) * m // n, cell, quota)


def allowed(c):
    """All bit strings of dropped units with the right number in each cell."""
    bits = torch.from_numpy(all_bits(len(c.cell))).long()
    counts = torch.stack([bits[:, c.cell == k].sum(1) for k in range(len(c.quota))], 1)
    return bits[(counts == c.surplus).all(1)]


@pytest.mark.parametrize("units", [None, 4])
def test_energies_of_the_qubo_are_the_models_own(units):
    c = choice(8, 0, 2, units=units)
    qubo = c.qubo()
    for bits in itertools.product((0, 1), repeat=len(c.cell)):
        dropped = torch.tensor(bits)[c.unit]
        assert float(qubo.energies(bits)) == pytest.approx(c.energy(c.w * (1 - dropped)), abs=1e-12)


@pytest.mark.parametrize("sampler", ["annealer", "exact", "greedy", "tabu"])
@pytest.mark.parametrize(("units", "cells", "keep"), [(None, 1, 3), (5, 1, 2), (None, 5, 1)])
def test_choices_are_those_of_enumeration(sampler, units, cells, keep):
    missed = 0
    for seed in range(20):
        c = choice(10, seed, keep, units=units, cells=cells)
        found, energy, before = by_qubo(c, resolve(sampler), by_magnitude(c), num_reads=2, seed=seed)
        best = c.qubo().energies(allowed(c)).min()
        assert torch.equal(torch.bincount(c.cell[found], minlength=cells), c.quota)
        assert float(c.qubo().energies((~found).long())) == pytest.approx(energy) and best - 1e-9 <= energy <= before
        missed += energy > best + 1e-9
    assert missed <= {"annealer": 0, "exact": 0, "tabu": 2, "greedy": 10}[sampler] + (2 if cells > 1 else 0)


def test_a_choice_is_never_worse_than_its_start_and_no_swap_betters_it():
    class Hopeless:
        name = "hopeless"

        def sample_arrays(self, qubo, *, num_reads, seed, initial_states=None):
            return qa.samplers.Samples(torch.ones(num_reads, qubo.n, dtype=torch.uint8), torch.zeros(num_reads))

    c = choice(12, 3, 2, cells=3)
    start = by_obs(c)
    found, energy, before = by_qubo(c, resolve(Hopeless()), start, num_reads=3, seed=0)
    qubo = c.qubo()
    assert energy <= before == pytest.approx(float(qubo.energies((~start).long())))
    for i, j in itertools.product(range(12), range(12)):
        if found[i] and not found[j] and c.cell[i] == c.cell[j]:
            other = (~found).long()
            other[i], other[j] = 1, 0
            assert float(qubo.energies(other)) >= energy - 1e-9


def test_penalties_and_repairs_hold_the_numbers():
    c = choice(12, 1, 2, cells=3)
    qubo, dropped = c.qubo(), (~by_magnitude(c)).to(torch.uint8)
    fined = penalised(qubo, c, dropped)
    off = all_bits(12)
    price = fined.energies(off) - qubo.energies(off)
    counts = torch.stack([torch.from_numpy(off)[:, c.cell == k].sum(1) for k in range(3)], 1)
    broken = ((counts - c.surplus) ** 2).sum(1).double()
    assert torch.allclose(price - price.min(), broken * (price.max() - price.min()) / broken.max())
    for bits in (torch.zeros(12), torch.ones(12), dropped):
        fixed = repaired(qubo, c, bits)
        assert torch.equal(torch.bincount(c.cell[fixed > 0], minlength=3), c.surplus)
    assert torch.equal(repaired(qubo, c, dropped), dropped)
    assert torch.equal(descended(qubo, c.cell, torch.zeros(12)), torch.zeros(12, dtype=torch.uint8))


def obs_by_the_letter(w, H, keep):
    """Hassibi and Stork (1993): the inverse of what is left anew at each step, no shortcut."""
    w, alive = w.clone(), list(range(len(w)))
    while len(alive) > keep:
        inverse = torch.linalg.inv(H[alive][:, alive])
        q = int((w[alive] ** 2 / inverse.diagonal()).argmin())
        w[alive] -= w[alive][q] / inverse[q, q] * inverse[:, q]
        w[alive[q]] = 0.0
        del alive[q]
    return w


@pytest.mark.parametrize("n", [6, 150])
def test_obs_is_that_of_the_paper_and_its_update_the_compensation(n):
    c = choice(n, n, n // 5, trained=True)
    keep, reference = by_obs(c), obs_by_the_letter(c.w, c.H, n // 5)
    assert torch.equal(keep, reference != 0) and int(keep.sum()) == n // 5
    assert torch.allclose(c.compensated(keep), reference, atol=1e-8)


def test_obs_and_magnitude_keep_to_cells():
    c = choice(12, 5, 1, cells=4)
    for chosen in (by_obs, by_magnitude):
        assert torch.equal(torch.bincount(c.cell[chosen(c)]), c.quota)
    sizes = c.w.abs().view(4, 3)
    assert torch.equal(by_magnitude(c).view(4, 3), sizes == sizes.amax(1, keepdim=True))


def test_compensation_is_the_minimum_of_the_model():
    c = choice(9, 2, 4)
    keep = by_magnitude(c)
    v = c.compensated(keep)
    slope = c.g + c.H @ (v - c.w)
    assert slope[keep].abs().max() < 1e-10 and not v[~keep].any()
    assert c.energy(v) < c.energy(c.w * keep)
    assert c.damped(0.0) is c
    assert torch.allclose(c.damped(2.0).H - c.H, 2 * c.H.diagonal().mean() * torch.eye(9, dtype=torch.float64))


def test_a_linear_problem_is_pruned_to_its_best_subset():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    targets = torch.randn(60, 1, generator=generator)

    def solve(places):
        X = inputs[:, places].double()
        return float(targets.double().sub(X @ torch.linalg.lstsq(X, targets.double()).solution).square().mean())

    best = min(solve(list(places)) for places in itertools.combinations(range(8), 3))
    model = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(inputs, targets).solution.T)
    report = qa.prune(model, qa.Objective(model, functional.mse_loss, (inputs, targets)), 3 / 8, damping=1e-6)
    kept = model.weight.detach().nonzero()[:, 1].tolist()
    assert len(kept) == 3 and report.loss_after == pytest.approx(solve(kept), rel=1e-3)  # compensated to the end
    assert report.loss_after <= 1.3 * best


@pytest.mark.parametrize("method", ["qubo", "obs", "magnitude"])
@pytest.mark.parametrize("scope", [None, "global", "layer", "row"])
def test_numbers_are_exact(method, scope):
    model = net()
    before, names = weights(model), {"0": 30, "2": 15}
    report = qa.prune(model, objective(model), 0.3, method=method, scope=scope)
    kept = {row.name: row.kept for row in report.rows}
    assert kept == {name: int(model.get_submodule(name).weight.count_nonzero()) for name in names}
    per_row = {"0": 5 * 2, "2": 3 * 2}  # of 6 and of 5 weights
    wanted = {"layer": {"0": 9, "2": 4}, "row": per_row}.get(scope)
    assert kept == wanted if wanted else sum(kept.values()) == round(0.3 * 45)
    assert report.density == pytest.approx(sum(kept.values()) / 45)
    for name, mask in report.masks.items():
        weight = model.get_submodule(name).weight
        assert torch.equal(mask, weight != 0) and not report.aside[name][mask].any() and report.aside[name][~mask].all()
    assert report.loss_after == pytest.approx(float(objective(model)()), abs=1e-6)
    assert torch.equal(model[0].bias, before[1]) and report.loss_before == pytest.approx(float(objective(net())()))


def test_a_pruned_network_is_better_than_the_baselines():
    losses = {}
    for method in ("qubo", "obs", "magnitude"):
        model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
        with torch.no_grad():
            for k, p in enumerate(model.parameters()):
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(k)) / 2)
        trainer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(200):
            trainer.zero_grad()
            functional.cross_entropy(model(INPUTS), TARGETS).backward()
            trainer.step()
        losses[method] = qa.prune(model, objective(model), 0.25, method=method).loss_after
    assert losses["qubo"] < 0.5 * losses["obs"] and losses["obs"] < losses["magnitude"]


@pytest.mark.parametrize("method", ["qubo", "obs", "magnitude"])
@pytest.mark.parametrize("scope", [None, "layer", "row"])
def test_two_of_four(method, scope):
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    inputs = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    data = (inputs, (inputs[:, 0] > 0).long())
    qa.prune(model, objective(model, *data), 0.5, method=method, pattern="2:4", scope=scope)
    for layer in (model[0], model[2]):
        assert (layer.weight.view(-1, 4).count_nonzero(1) == 2).all()


def test_whole_rows_and_their_compensation():
    model = net()
    report = qa.prune(model, objective(model), 0.4, pattern="rows", scope="layer", skip="2")
    counts = model[0].weight.count_nonzero(1)
    assert sorted(counts.tolist()) == [0, 0, 0, 6, 6] and report.alone == {"2": "skipped"}
    model = net()
    report = qa.prune(model, objective(model), 0.5, pattern="rows")
    rows = torch.cat([model[0].weight.count_nonzero(1) > 0, model[2].weight.count_nonzero(1) > 0])
    assert int(rows.sum()) == 4


def test_convolutions_tied_weights_and_layers_left_alone():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.image = nn.Conv2d(1, 4, 3)
            self.words = nn.Embedding(5, 4)
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4)
            self.second.weight = self.first.weight
            self.frozen = nn.Linear(4, 2).requires_grad_(False)
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            h = self.image(x).relu().mean((2, 3)) + self.words.weight[0]
            return self.frozen(self.second(self.first(h).tanh()))

    torch.manual_seed(0)
    for scope in ("global", "layer", "row"):
        model = Net()
        images = torch.randn(12, 1, 5, 5)
        aim = qa.Objective(model, functional.cross_entropy, (images, torch.arange(12) % 2))
        report = qa.prune(model, aim, 0.25, scope=scope)
        assert [row.name for row in report.rows] == ["image", "first", "unused"]
        assert model.second.weight is model.first.weight
        assert set(report.alone) == {"words", "frozen"} and "frozen" in report.alone["frozen"]
        notes = [row.note for row in report.rows]
        assert notes[:2] == ["", ""] and notes[2].startswith("the objective does not depend on it")
        assert "not supported" in report.alone["words"] and "words: left alone" in str(report)
        if scope != "global":
            assert [row.kept for row in report.rows] == ([9, 4, 1] if scope == "layer" else [8, 4, 2])


def test_row_curvature_is_that_of_the_outputs():
    torch.manual_seed(1)
    model, inputs = nn.Linear(6, 2), torch.randn(40, 6) @ torch.randn(6, 6)
    target = model(inputs).detach()
    aim = qa.Objective(model, functional.mse_loss, (inputs, target))
    original = model.weight.detach().clone()
    report = qa.prune(model, aim, 0.5, scope="row", stages=1, damping=1e-6)
    assert report.rows[0].form.startswith("second moments") and len(report.stages) == 1
    X = inputs.double()
    for row, mask in enumerate(report.masks[""]):
        best = torch.linalg.lstsq(X[:, mask], X @ original[row].double()).solution
        assert torch.allclose(model.weight[row, mask].double(), best, atol=1e-3)


def test_large_layers_get_the_cheaper_form():
    model = net()
    report = qa.prune(model, objective(model), 0.4, dense_limit=20)
    assert [row.form for row in report.rows] == ["second moments of inputs, row by row", "dense Gauss-Newton matrix"]
    with pytest.raises(ValueError, match="Invalid scope: 'global'; its 45 weights are more than dense_limit, 20"):
        qa.prune(model, objective(model), 0.4, scope="global", dense_limit=20)
    with pytest.raises(ValueError, match="Invalid dense_limit: 20; layer '0' has 30 weights"):
        qa.prune(model, objective(model), 0.4, pattern="rows", dense_limit=20)
    report = qa.prune(model, objective(model), 0.4, method="magnitude", dense_limit=1)
    assert sum(row.kept for row in report.rows) == 18


def test_all_is_kept_at_density_one():
    model = net()
    before = weights(model)
    report = qa.prune(model, objective(model), 1.0)
    assert same(before, weights(model)) and report.density == 1 and not report.stages


def test_it_leaves_no_trace_but_weights():
    model = net().train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    state = torch.get_rng_state()
    first = qa.prune(model, objective(model), 0.3, seed=3)
    assert model.training and bool((model[0].weight.grad == 1).all()) and torch.equal(state, torch.get_rng_state())
    other = net()
    again = qa.prune(other, objective(other), 0.3, seed=3)
    assert same(weights(model), weights(other)) and first.loss_after == again.loss_after
    data = json.loads(first.to_json())
    assert data["settings"]["density"] == 0.3 and data["rows"][0]["name"] == "0" and len(data["stages"]) >= 6
    assert data["stages"][0]["energy"] <= data["stages"][0]["energy_start"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0.0}, r"Invalid density: 0.0; a number in \(0, 1\]"),
        ({"density": 1.5}, "Invalid density: 1.5"),
        ({"density": math.nan}, "Invalid density: nan"),
        ({"density": "half"}, "Invalid density: half"),
        ({"method": "random"}, "Invalid method: 'random'; must be one of"),
        ({"scope": "column"}, "Invalid scope: 'column'"),
        ({"start": "random"}, "Invalid start: 'random'"),
        ({"pattern": "blocks"}, "Invalid pattern: 'blocks'"),
        ({"pattern": "4:4", "density": 1.0}, "Invalid pattern: '4:4'"),
        ({"pattern": "2:4"}, "Invalid density: 0.3; 0.5 with pattern 2:4"),
        ({"pattern": "4:8", "density": 0.5}, "Invalid model: no layer to prune .0: its 6 inputs do not split"),
        ({"pattern": "rows", "scope": "row"}, "Invalid scope: 'row' with pattern 'rows'"),
        ({"pattern": "rows", "method": "obs"}, "Invalid method: 'obs' with pattern 'rows'"),
        ({"pattern": "rows", "start": "obs"}, "Invalid start: 'obs' with pattern 'rows'"),
        ({"stages": 0}, "Invalid stages: 0; an int of at least 1 is needed"),
        ({"refits": -1}, "Invalid refits: -1"),
        ({"num_reads": 1.5}, "Invalid num_reads: 1.5"),
        ({"damping": 0.0}, "Invalid damping: 0.0; positive"),
        ({"damping": ()}, r"Invalid damping: \(\)"),
        ({"damping": "much"}, "Invalid damping: 'much'"),
        ({"damping": (0.1, True)}, r"Invalid damping: \(0.1, True\)"),
        ({"compensate": "no"}, "Invalid compensate: 'no'"),
        ({"sampler": "nobody"}, "Invalid sampler: 'nobody'"),
        ({"skip": "nowhere"}, "Invalid skip: 'nowhere'"),
        ({"skip": ["0", "2"]}, "Invalid model: no layer to prune .0: skipped; 2: skipped"),
    ],
)
def test_bad_input_is_named_and_nothing_moves(options, message):
    model = net()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        qa.prune(model, objective(model), **{"density": 0.3, **options})
    assert same(before, weights(model))


def test_bad_models_and_objectives_are_named():
    model, other = net(), net(1)
    with pytest.raises(TypeError, match="Invalid model: int"):
        qa.prune(3, objective(model))
    with pytest.raises(TypeError, match="Invalid objective: function"):
        qa.prune(model, functional.cross_entropy)
    with pytest.raises(ValueError, match="Invalid objective: its model does not have the weight of layer '0'"):
        qa.prune(model, objective(other))
    with pytest.raises(ValueError, match="Invalid objective: nan at the present weights"):
        qa.prune(model, objective(model, INPUTS * math.nan))
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="Invalid model: NaN or infinity in the weight of layer '2'"):
        qa.prune(model, objective(model))


@pytest.mark.parametrize("calls", [1, 5, 7, 70])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_the_model_whole(calls, error):
    model, left = net(), [calls]
    before = weights(model)

    def loss(outputs, targets):
        left[0] -= 1
        if left[0] == 0:
            raise error
        return functional.cross_entropy(outputs, targets)

    with pytest.raises(error):
        qa.prune(model, qa.Objective(model, loss, (INPUTS, TARGETS)), 0.2, scope="row" if calls == 7 else None)
    assert same(before, weights(model)) and model.training


def test_a_loss_that_is_not_convex():
    model = net()

    def loss(outputs, targets):
        return torch.sin(3 * outputs).mean()

    report = qa.prune(model, qa.Objective(model, loss, (INPUTS, TARGETS)), 0.4)
    assert sum(row.kept for row in report.rows) == 18 and math.isfinite(report.loss_after)


def test_an_objective_that_becomes_infinite_is_told():
    model = net()
    before = weights(model)

    def loss(outputs, targets):
        return functional.cross_entropy(outputs, targets) / (model[0].weight != 0).all()

    with pytest.raises(ValueError, match="Invalid objective: not finite at density"):
        qa.prune(model, qa.Objective(model, loss, (INPUTS, TARGETS)), 0.2, method="magnitude")
    assert same(before, weights(model))


def test_the_matrix_is_exact_whatever_the_batches():
    model = net(dtype=torch.float64)
    subset = Subset.of([(model[0].weight, torch.arange(30))])
    data = (INPUTS.double(), TARGETS)
    whole, parts = objective(model, *data), objective(model, *data, batch_size=5)
    assert torch.allclose(ggn(whole, subset), ggn(parts, subset), atol=1e-12)
    qa.prune(model, parts, 0.3)
    other = net(dtype=torch.float64)
    qa.prune(other, objective(other, *data), 0.3)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(model), weights(other)))
