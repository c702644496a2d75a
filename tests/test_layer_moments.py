"""Second moments of whole layers, against sums written out over a model's intermediate tensors."""

import copy

import pytest
import torch
from torch import nn

from qanneal_opt.compress.layers import find_layers, portions
from qanneal_opt.curvature import Feed, layer_moments
from qanneal_opt.curvature.moments import Gram
from qanneal_opt.curvature.paired import call_stages, paired_moments

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


class Attention(nn.Module):
    """Three layers that see one tensor, one that sees it after it was written to, and one at the end."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.late, self.out = (nn.Linear(4, 4) for _ in range(5))
        self.unused = nn.Linear(4, 4)

    def forward(self, x, attention_mask=None):
        x = x + 0.0
        q, k, v = self.q(x), self.k(x), self.v(input=x)
        x.mul_(2.0)
        late = self.late(x)
        scores = q @ k.mT
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask[:, None] == 0, -1e9)
        return {"hidden": self.out(scores.softmax(-1) @ v + late), "count": torch.tensor(3)}


def layers_of(model):
    return find_layers(model)[0]


@pytest.mark.parametrize("columns", [3, 300])
def test_sums_of_products(columns):
    rows = randn(2, 50, columns)
    gram = Gram()
    for part in rows.split(20, 1):
        gram.add(part)
    other = gram.copy()
    other.add(rows)
    assert torch.allclose(gram.moment(), (rows.mT @ rows / 50).double(), **CLOSE) and gram.rows == 50
    assert torch.equal(gram.moment(), gram.moment().mT) and torch.allclose(gram.mean(), rows.mean(1).double(), **CLOSE)
    assert torch.allclose(other.moment(), gram.moment(), **CLOSE) and other.rows == 100


@pytest.mark.parametrize(("precision", "off"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-3)])
def test_a_mean_far_from_zero_costs_no_digits(precision, off):
    rows = randn(1, 4000, 8).double() * 0.1
    gram = Gram(precision)
    for part in (1000 + rows).split(1000, 1):
        gram.add(part.float())
    covariance = gram.moment()[0] - torch.outer(gram.mean()[0], gram.mean()[0])
    expected = torch.cov((1000 + rows).float().double()[0].T, correction=0)
    assert float((covariance - expected).abs().max()) < off * float(expected.max())
    assert torch.allclose(gram.constant(), torch.ones(1).double())


def test_products_alone_may_be_rounded():
    rows, exact, rounded = randn(1, 700, 200), Gram(), Gram(torch.bfloat16)
    exact.add(rows)
    rounded.add(rows)
    torch.testing.assert_close(rounded.moment(), exact.moment(), rtol=0.0, atol=1e-3)
    assert torch.equal(rounded.mean(), exact.mean())
    one = torch.full((2, 2), 1 + 2.0**-12)
    assert float((one @ torch.eye(2))[0, 0]) == 1 + 2.0**-12  # other products are as they were


@pytest.mark.parametrize("masked", [False, True])
def test_inputs_by_hand_and_shared_where_they_are_the_same_tensor(masked):
    model, batches = seeded(Attention), [randn(3, 5, 4, seed=k) for k in range(3)]
    mask = (torch.arange(5) < torch.tensor([[5], [2], [3]])).long()
    data = [{"x": x, "attention_mask": mask} if masked else x for x in batches]
    found = layer_moments(Feed(model, data), layers_of(model))
    assert list(found) == ["q", "k", "v", "late", "out"]
    rows = torch.cat([x[mask.bool()] if masked else x.flatten(0, 1) for x in batches])
    for name, scale in (("q", 1.0), ("late", 2.0)):
        seen = scale * rows
        assert torch.allclose(found[name].inputs[0], (seen.T @ seen / len(seen)).double(), **CLOSE)
        assert torch.allclose(found[name].mean[0], seen.mean(0).double(), **CLOSE)
        assert found[name].rows == len(rows) and found[name].outputs is None
    assert found["q"].inputs is found["k"].inputs is found["v"].inputs
    assert found["late"].inputs is not found["q"].inputs


def test_layers_that_part_company_later_do_not_share():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x, same):
            return self.a(x) + self.b(x if same else x.square())

    model, x, y = Fork(), randn(6, 4), randn(6, 4, seed=1)
    found = layer_moments(Feed(model, [(x, True), (y, False), (x, True)]), layers_of(model))
    for name, rows in (("a", torch.cat([x, y, x])), ("b", torch.cat([x, y.square(), x]))):
        assert torch.allclose(found[name].inputs[0], (rows.T @ rows / len(rows)).double(), **CLOSE)


def test_a_layer_called_twice_on_the_same_tensor_counts_it_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) + self.a(x) + self.a(x.square())

    x = randn(6, 4)
    found = layer_moments(Feed(model := Twice(), [x]), layers_of(model))["a"]
    rows = torch.cat([x, x, x.square()])
    assert found.rows == 18 and torch.allclose(found.inputs[0], (rows.T @ rows / 18).double(), **CLOSE)


CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    {"kernel_size": 2, "groups": 2, "padding": "same"},
    {"kernel_size": 3, "groups": 4, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "groups": 2, "padding": (2, 1), "padding_mode": "circular", "bias": False},
    {"kernel_size": 1, "stride": 3, "padding": "valid"},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("batched", [True, False])
def test_patches_times_the_matrix_are_the_convolution(options, batched, monkeypatch):
    monkeypatch.setattr("qanneal_opt.compress.kinds._CHUNK", 4000)  # several chunks of images
    module = seeded(lambda: nn.Conv2d(4, 8, **options))
    x = randn(5, 4, 9, 8) if batched else randn(4, 9, 8)
    (layer,) = layers_of(module)
    rows = torch.cat(list(layer.input_rows(x, None)), 1)  # (G, N, C)
    output = module(x) if module.bias is None else module(x) - module.bias[:, None, None]
    wanted = torch.cat(list(layer.output_rows(output, None)), 1)
    products = torch.stack([rows[g] @ layer.matrix()[part].T for g, part in enumerate(layer.parts())])
    assert torch.allclose(products, wanted, **CLOSE)
    assert torch.equal(layer.assembled(layer.matrix()), module.weight)
    assert layer.size == 8 * module.groups * (2 * rows.shape[2] ** 2 + (8 // module.groups) ** 2)


def jacobians(model, name, x):
    """d output / d (output of a layer), sample by sample: `(N, outputs, R)`."""
    module = dict(model.named_modules())[name]
    shape = {}
    handle = module.register_forward_hook(lambda m, a, y: shape.update(y=y.shape[1:]))
    model(x[:1])
    handle.remove()

    def outputs(shift, sample):
        handle = module.register_forward_hook(lambda m, a, y: y + shift)
        try:
            return model(sample[None]).flatten()
        finally:
            handle.remove()

    zero = torch.zeros(*shape["y"])
    return torch.stack([torch.autograd.functional.jacobian(lambda d: outputs(d, s), zero).flatten(1) for s in x])  # noqa: B023


def test_gradients_of_random_projections_estimate_the_gauss_newton_matrix():
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh()))
    x = randn(12, 3)
    for p in model.parameters():
        p.requires_grad_(False)
    found = layer_moments(Feed(model, x.split(6)), layers_of(model), projections=1500)
    for name in ("0", "2"):
        J = jacobians(model, name, x)  # (12, 5, R)
        G = torch.einsum("nor,nos->rs", J, J) / len(x)
        assert torch.allclose(found[name].outputs[0].float(), G, rtol=0.1, atol=0.05 * float(G.abs().max()))
        assert found[name].rows == 12
    other = layer_moments(Feed(model, x.split(6)), layers_of(model), projections=1, seed=1)
    assert not torch.equal(found["0"].outputs, other["0"].outputs)


def test_convolutions_have_gradients_for_each_group_and_place():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)))
    x = randn(6, 2, 4, 4)
    found = layer_moments(Feed(model, [x]), layers_of(model), projections=1000)["0"]
    J = jacobians(model, "0", x).view(6, 3, 2, 2, 4)  # samples, outputs, groups, rows of a group, places
    G = torch.einsum("nogrp,nogsp->grs", J, J) / (6 * 4)
    assert found.outputs.shape == (2, 2, 2) and found.inputs.shape == (2, 9, 9)
    assert torch.allclose(found.outputs.float(), G, rtol=0.1, atol=0.05 * float(G.abs().max()))


def test_tokens_that_do_not_count_send_no_gradient():
    model = seeded(Attention)
    x, mask = randn(3, 5, 4), (torch.arange(5) < torch.tensor([[5], [2], [3]])).long()
    loud = torch.where(mask.bool()[..., None], x, torch.full_like(x, 100.0))
    results = [
        layer_moments(Feed(model, [{"x": given, "attention_mask": mask}]), layers_of(model), projections=2)
        for given in (x, loud)
    ]
    for name in ("q", "v", "out"):
        assert torch.allclose(results[0][name].outputs, results[1][name].outputs, **CLOSE)


def test_no_gradient_at_a_layer_that_the_output_does_not_depend_on():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.side = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            self.side(x)
            return self.a(x)

    found = layer_moments(Feed(model := Model(), [randn(6, 4)]), layers_of(model), projections=1)
    assert found["side"].outputs is None and found["a"].outputs is not None


def test_pairs_of_inputs_before_and_after_a_change():
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 2)))
    batches = [randn(8, 4, seed=k) for k in range(3)]
    old = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    feed, layers = Feed(model, batches), layers_of(model)
    stages, calls = call_stages(feed, layers)
    assert [[layer.name for layer in stage] for stage in stages] == [["0"], ["2"], ["3"]] and max(calls.values()) == 1
    ran = []
    handle = model[3].register_forward_hook(lambda *_: ran.append(1))
    found = paired_moments(feed, [layers[1]], {"0.weight": old[0].weight.detach()}, calls)["2"]
    handle.remove()
    assert not ran  # a pass ends where all is known
    x = torch.cat(batches)
    before, now = old[:2](x), model[:2](x)
    for mine, rows in ((found.mean_before, before), (found.mean_now, now)):
        assert torch.allclose(mine[0], rows.mean(0).double(), **CLOSE)
    assert torch.allclose(found.cross[0], (before.T @ now / 24).double(), **CLOSE)
    assert torch.allclose(found.now[0], (now.T @ now / 24).double(), **CLOSE) and found.rows == 24
    assert torch.equal(model[0].weight, old[0].weight * 0.5)


def test_stages_are_layers_with_one_input():
    model = seeded(Attention)
    stages, calls = call_stages(Feed(model, [randn(2, 5, 4)]), layers_of(model))
    assert [[layer.name for layer in stage] for stage in stages] == [["q", "k", "v"], ["late"], ["out"]]
    assert "unused" not in calls and calls["out"] == 1


def test_portions_fit_into_memory():
    layers = layers_of(nn.Sequential(*[nn.Linear(10, 10) for _ in range(5)]))
    assert [len(part) for part in portions(layers, 1.0)] == [5]
    assert [len(part) for part in portions(layers, 2 * layers[0].size / 1e9)] == [2, 2, 1]
    assert [len(part) for part in portions(layers, 1e-12)] == [1] * 5
