"""Coherent second moments of inputs against the gradients of the weights themselves, sample by sample."""

import pytest
import torch
from torch import nn

from qanneal_opt.compress.layers import find_layers
from qanneal_opt.curvature.coherent import add_samples, mixed
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.layer import layer_moments
from qanneal_opt.curvature.moments import Gram


class Pooled(nn.Module):
    """A layer at every token, then the mean over those that count."""

    def __init__(self, out_features):
        super().__init__()
        self.layer = nn.Linear(3, out_features)

    def forward(self, x, attention_mask):
        count = attention_mask.to(x.dtype)[..., None]
        return (torch.tanh(self.layer(x)) * count).sum(1) / count.sum(1)


def weight_gradients(model, layer, batch, signs):
    """(B, R, C + 1): of the signs' projection by the weight and the bias, one sample after the other."""
    rows = []
    for k in range(len(signs)):
        out = model(**{name: value[k : k + 1] for name, value in batch.items()})
        gradients = torch.autograd.grad((out * signs[k : k + 1]).sum(), [layer.weight, layer.bias])
        rows.append(torch.cat([gradients[0].flatten(1), gradients[1][:, None]], 1))
    return torch.stack(rows)


@pytest.mark.parametrize("places", [2, 9])  # fewer and more than gradients have entries
def test_samples_are_the_squares_of_their_sums(places):
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, 5, places, 3, generator=generator), torch.randn(2, 5, places, 4, generator=generator)
    gram = Gram()
    for part in (slice(0, 2), slice(2, 5)):
        add_samples(gram, x[:, part], g[:, part])
    sums = g.mT @ torch.cat([x, torch.ones(2, 5, places, 1)], -1)  # M, (2, 5, 4, 4)
    expected = (sums.mT @ sums).sum(1).double() / g.double().square().sum((1, 2, 3))[:, None, None]
    torch.testing.assert_close(gram.moment(), expected[:, :3, :3], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gram.mean(), expected[:, :3, 3], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gram.constant(), expected[:, 3, 3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("out_features", [2, 12])
def test_moments_are_those_of_weight_gradients(out_features):
    torch.manual_seed(1)
    model = Pooled(out_features).double()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    batch = {"x": torch.randn(3, 5, 3, dtype=torch.float64), "attention_mask": mask}
    layers, _ = find_layers(model)
    plain = layer_moments(Feed(model, [batch]), layers, projections=1, seed=3)["layer"]
    found = layer_moments(Feed(model, [batch]), layers, projections=1, seed=3, coherence=0.25)["layer"]
    generator = torch.Generator().manual_seed(3)
    signs = 2 * torch.randint(0, 2, (3, out_features), generator=generator, dtype=torch.int8) - 1
    M = weight_gradients(model, model.layer, batch, signs)
    coherent = (M.mT @ M).sum(0) / unit_of(plain, 0)
    scale = 0.75 + 0.25 * coherent[-1, -1]
    expected = (0.75 * plain.inputs[0] + 0.25 * coherent[:-1, :-1]) / scale
    torch.testing.assert_close(found.inputs[0], expected)
    torch.testing.assert_close(found.mean[0], (0.75 * plain.mean[0] + 0.25 * coherent[:-1, -1]) / scale)
    torch.testing.assert_close(found.outputs, plain.outputs)


def test_a_constant_input_keeps_the_moment_one():
    moment, gram = torch.eye(2).double()[None], Gram()
    add_samples(gram, torch.tensor([[[[1.0, 0.0], [1.0, 0.0], [0.5, 1.0]]]]), torch.tensor([[[[1.0], [0.5], [1.0]]]]))
    same, mean = mixed(moment, torch.zeros(1, 2).double(), gram, 0.0)
    assert torch.equal(same, moment)
    half, mean = mixed(moment, torch.zeros(1, 2).double(), gram, 0.5)
    weight = 2.25 + 2.5**2  # |g|^2 of rows, and of a constant 1
    coherent = torch.tensor([[[4.0, 2.0], [2.0, 1.0]]]).double()  # M = (2, 1), and 2.5 of a constant 1
    torch.testing.assert_close(half, (2.25 * moment + coherent) / weight)
    torch.testing.assert_close(mean, torch.tensor([[5.0, 2.5]]).double() / weight)


@pytest.mark.parametrize("groups", [1, 2])
def test_images_are_samples_of_pixels(groups):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=groups), nn.Tanh(), nn.Flatten(), nn.Linear(36, 2))
    model.double()
    images = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    layers, _ = find_layers(model)
    plain = layer_moments(Feed(model, [images]), layers, projections=1, seed=5)["0"]
    found = layer_moments(Feed(model, [images]), layers, projections=1, seed=5, coherence=0.5)["0"]
    generator = torch.Generator().manual_seed(5)
    signs = 2 * torch.randint(0, 2, (4, 2), generator=generator, dtype=torch.int8) - 1
    for g in range(groups):
        rows = slice(g * 4 // groups, (g + 1) * 4 // groups)
        total = 0
        for k in range(4):
            out = model(images[k : k + 1])
            weight, bias = torch.autograd.grad((out * signs[k : k + 1]).sum(), [model[0].weight, model[0].bias])
            M = torch.cat([weight.flatten(1)[rows], bias[rows, None]], 1)
            total = total + M.mT @ M
        ratio = found.inputs[g] * (1 + total[-1, -1] / unit_of(plain, g)) - plain.inputs[g]
        torch.testing.assert_close(ratio, total[:-1, :-1] / unit_of(plain, g))


def unit_of(moments, group):
    """The sum of |g|^2 over all rows of a group."""
    return moments.outputs[group].trace() * moments.rows
