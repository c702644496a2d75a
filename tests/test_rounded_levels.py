"""The optimizer goes on from a rounded network: from exactly these weights, by gradient and annealing steps."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.encoding import Levels
from qanneal_opt.testing import assert_encoding

INPUTS = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(1))


def rounded(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, qa.quantize(model, [INPUTS], sweeps=5, **{"bits": 3, **options})


def optimizer(model, report, step, **options):
    groups = [{"params": [model[int(name)].weight], "encoding": report.levels(name)} for name in report.rounded]
    objective = qa.Objective(model, functional.cross_entropy, (INPUTS, TARGETS))
    biases = {"params": [p for p in model.parameters() if p.ndim == 1]}
    return qa.AnnealingOptimizer([*groups, biases], objective=objective, annealing=step, **options)


GRIDS = [{}, {"group_size": 4}, {"symmetric": True}, {"zero": "real"}, {"bits": 1}, {"bits": 8}]


@pytest.mark.parametrize("options", GRIDS)
def test_it_starts_from_exactly_these_weights_and_codes(options):
    model, report = rounded(**options)
    before = [p.detach().clone() for p in model.parameters()]
    made = optimizer(model, report, qa.DirectStep())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before))
    for name, mine in report.rounded.items():
        codes, _ = made.codes(model[int(name)].weight)
        assert torch.equal(codes, mine.codes.long())


@pytest.mark.parametrize("step", [qa.DirectStep(proposals=8, refit=2), qa.QuboStep(proposals=8, variables=4, refit=2)])
@pytest.mark.parametrize("options", GRIDS[:4])
def test_it_trains_on_and_stays_on_the_grid(options, step):
    model, report = rounded(**options)
    made = optimizer(model, report, copy.deepcopy(step), schedule=qa.Every(1), lr=1e-2)
    start = float(made.objective())
    for _ in range(10):
        made.zero_grad()
        functional.cross_entropy(model(INPUTS), TARGETS).backward()
        made.step()
    made.restore_best()
    assert float(made.objective()) < start - 0.01 and sum(record.moved for record in made.records) > 0
    for name, mine in report.rounded.items():
        weight = model[int(name)].weight
        codes, scale = made.codes(weight)
        encoding = report.levels(name)
        zero = 0.0 if encoding.zero is None else encoding.zero
        assert torch.equal(weight, (torch.tensor(encoding.values)[codes] - zero) * scale)
        assert int(codes.max()) < 2**mine.grid.bits
        if options.get("group_size"):
            assert torch.equal(scale, report.levels(name).scale)  # a scale for each of a row's groups stays


def test_state_goes_through_a_checkpoint():
    model, report = rounded()
    first = optimizer(model, report, qa.DirectStep(proposals=8, refit=2), schedule=qa.Every(1), lr=1e-2)
    other, twin = copy.deepcopy(model), None
    for k in range(4):
        if k == 2:
            other.load_state_dict(model.state_dict())
            twin = optimizer(other, report, qa.DirectStep(proposals=8, refit=2), schedule=qa.Every(1), lr=1e-2)
            twin.load_state_dict(copy.deepcopy(first.state_dict()))
        for net, made in ((model, first), (other, twin)):
            if made is not None:
                made.zero_grad()
                functional.cross_entropy(net(INPUTS), TARGETS).backward()
                made.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))
    plain = qa.AnnealingOptimizer([{"params": [nn.Parameter(torch.randn(8, 6))], "encoding": Levels.uniform(3)}])
    with pytest.raises(ValueError, match="state_dict"):
        plain.load_state_dict(first.state_dict())


@pytest.mark.parametrize("scale", ["row", "tensor", torch.tensor([0.5, 0.25]), torch.rand(3, 2) + 0.5])
@pytest.mark.parametrize("zero", [torch.tensor(1.5), torch.tensor([[0.0], [3.0], [1.0]]), torch.rand(3, 2)])
@pytest.mark.parametrize("chunk", [2, 1000])
def test_levels_with_zero_points_are_an_encoding(scale, zero, chunk, monkeypatch):
    monkeypatch.setattr("qanneal_opt.encoding.quantizer.CHUNK", chunk)  # 2: rows in blocks of their own
    weights = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    encoding = Levels((0.0, 1.0, 2.0, 3.0), scale=scale, zero=zero)
    assert_encoding(encoding, weights)
    encoded = encoding.attach(nn.Parameter(weights.clone()), 0)
    sum_rows = encoded.quantizer.sum_rows
    grid = ((torch.arange(4.0)[:, None, None] - zero) * encoded.scale).expand(4, 3, 2)
    assert torch.equal(encoded.param, grid.gather(0, encoded.codes.long()[None])[0])
    assert torch.equal(encoded.codes.long(), (grid - weights).abs().argmin(0))
    gradient = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    by_hand = torch.zeros_like(encoded.scale)
    for r, c in [(r, c) for r in range(3) for c in range(2)]:  # d w / d scale is levels[code] - zero
        one = torch.zeros(3, 2)
        one[r, c] = gradient[r, c]
        by_hand += sum_rows(one * encoded.param.detach() / encoded.scale) if encoded.learns_scale else 0
    if encoded.learns_scale:
        assert torch.allclose(encoded.scale_gradient(gradient), by_hand, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"start": torch.tensor([1.0, -1.0])}, "start"),
        ({"start": torch.tensor([1.0]), "scale": torch.tensor(1.0)}, "start"),
        ({"zero": torch.tensor([torch.nan])}, "zero"),
    ],
)
def test_levels_of_no_use(options, named):
    with pytest.raises(ValueError, match=f"Invalid {named}"):
        Levels((0.0, 1.0), **options)


def test_shapes_of_no_use_and_unknown_names():
    weight = nn.Parameter(torch.randn(3, 2))
    with pytest.raises(ValueError, match="Invalid start: shape"):
        Levels((0.0, 1.0), start=torch.ones(2)).attach(weight, 0)
    with pytest.raises(ValueError, match="Invalid zero: shape"):
        Levels((0.0, 1.0), zero=torch.ones(3)).attach(weight, 0)
    with pytest.raises(KeyError, match="Invalid name"):
        rounded()[1].levels("7")
