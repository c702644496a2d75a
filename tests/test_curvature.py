"""Curvature over a subset, against the dense Hessian of the whole objective written as one function."""

import importlib

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn import functional

from qanneal_opt.curvature import ggn, gradient, hessian, row_model
from qanneal_opt.objective import Objective
from qanneal_opt.subset import Subset

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def mlp(outputs=3, activation=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), activation(), nn.Linear(4, outputs)).double()


def user_loss(outputs, targets):
    """Neither convex nor a function of single outputs."""
    return (outputs.sin() * outputs.roll(1, 1) - targets[:, None]).square().mean()


def normalised_mse(outputs, targets):
    """A convex loss of the user's own that no library knows."""
    return ((outputs.mean(1) - targets) ** 4).mean() + functional.softplus(outputs).mean()


def data(outputs=3, n=11, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return {
        functional.cross_entropy: (inputs, torch.randint(outputs, (n,), generator=generator)),
        functional.mse_loss: (inputs, torch.randn(n, outputs, generator=generator, dtype=torch.float64)),
        user_loss: (inputs, torch.randn(n, generator=generator, dtype=torch.float64)),
        normalised_mse: (inputs, torch.randn(n, generator=generator, dtype=torch.float64)),
    }


LOSSES = list(data())


def whole(objective):
    """The mean loss of an unbatched, unweighted objective as a function of all parameters laid end to end."""
    model, (inputs, targets) = objective.model, objective.data
    names = [name for name, _ in model.named_parameters()]
    tensors = [p.detach() for p in model.parameters()]
    sizes = [t.numel() for t in tensors]

    def outputs(flat):
        parts = flat.split(sizes)
        state = {k: v.view(t.shape) for k, v, t in zip(names, parts, tensors)}
        return functional_call(model, state, (inputs,))

    flat = torch.cat([t.flatten() for t in tensors])
    return outputs, (lambda flat: objective.loss(outputs(flat), targets)), flat


def places(objective, subset):
    """Where the weights of the subset stand among all parameters laid end to end."""
    params = list(objective.model.parameters())
    starts = torch.tensor([0] + [p.numel() for p in params]).cumsum(0)
    rank = {id(p): k for k, p in enumerate(params)}
    return torch.tensor([int(starts[rank[id(subset.params[o])]]) for o in subset.owner]) + subset.index


def dense_hessian(objective, subset):
    _, loss, flat = whole(objective)
    at = places(objective, subset)
    return torch.func.hessian(loss)(flat)[at][:, at]


def dense_ggn(objective, subset):
    outputs, _, flat = whole(objective)
    J = jacrev(outputs)(flat).flatten(0, 1)  # (N C, P)
    z = outputs(flat).detach()
    A = torch.func.hessian(lambda v: objective.loss(v.view(z.shape), objective.data[1]))(z.flatten())
    at = places(objective, subset)
    return (J.T @ A @ J)[at][:, at]


def some(model, n=13):
    """Weights of all parameters, in an order that mixes them."""
    return Subset.at_random(list(model.parameters()), n, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_against_the_dense_matrices(loss, chunk):
    model = mlp()
    objective, subset = Objective(model, loss, data()[loss]), some(model)
    torch.testing.assert_close(hessian(objective, subset, chunk=chunk), dense_hessian(objective, subset), **CLOSE)
    torch.testing.assert_close(ggn(objective, subset, chunk=chunk), dense_ggn(objective, subset), **CLOSE)
    _, value, flat = whole(objective)
    slope = torch.func.grad(value)(flat)[places(objective, subset)]
    torch.testing.assert_close(gradient(objective, subset), slope, **CLOSE)


@pytest.mark.parametrize("loss", [functional.cross_entropy, functional.mse_loss, normalised_mse])
def test_ggn_of_a_convex_loss_is_positive_semidefinite(loss):
    model = mlp()
    eigenvalues = torch.linalg.eigvalsh(ggn(Objective(model, loss, data()[loss]), some(model, 30)))
    assert eigenvalues.min() > -1e-12
    assert eigenvalues.max() > 1e-3


@pytest.mark.parametrize("matrix", [ggn, hessian])
@pytest.mark.parametrize("loss", LOSSES)
def test_batches_and_weights_average_to_the_whole(matrix, loss):
    model, pair = mlp(), data()[loss]
    subset = some(model)
    full = matrix(Objective(model, loss, pair), subset)
    torch.testing.assert_close(matrix(Objective(model, loss, pair, batch_size=4), subset), full, **CLOSE)
    twice = Objective(model, loss, tuple(part[[0, 0, 1, 2]] for part in pair))
    weights = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)
    weighted = Objective(model, loss, tuple(part[:3] for part in pair), weights=weights, batch_size=2)
    torch.testing.assert_close(matrix(weighted, subset), matrix(twice, subset), **CLOSE)


class Cube(torch.autograd.Function):
    """An operation in the old style, which no transform of torch.func can take."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * 3 * x**2


class Old(nn.Module):
    def forward(self, x):
        return Cube.apply(x)


class New(nn.Module):
    def forward(self, x):
        return x**3


class Reads(nn.Module):
    """Looks at values in Python, and writes a buffer even in eval mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.seen.copy_(x.detach().mean())
        return x**3 if float(x.detach().sum()) < 1e9 else x


@pytest.mark.parametrize("odd", [Old, Reads])
@pytest.mark.parametrize("matrix", [ggn, hessian])
@pytest.mark.parametrize("loss", LOSSES)
def test_models_that_transforms_cannot_take(odd, matrix, loss):
    known, model = mlp(activation=New), mlp(activation=odd)
    expected = matrix(Objective(known, loss, data()[loss]), some(known))
    torch.testing.assert_close(matrix(Objective(model, loss, data()[loss]), some(model)), expected, **CLOSE)
    assert all(float(buffer) == 0.0 for buffer in model.buffers())


class Wide(nn.Module):
    """What a linear loss and an unused parameter leave of curvature: nothing."""

    def __init__(self, activation):
        super().__init__()
        self.used, self.unused, self.act = nn.Linear(5, 3).double(), nn.Linear(5, 3).double(), activation()

    def forward(self, x):
        return self.act(self.used(x))


@pytest.mark.parametrize("activation", [New, Old])
def test_no_curvature_where_nothing_depends(activation):
    model = Wide(activation)
    pair = data()[functional.cross_entropy]
    apart = Subset.of([(model.unused.weight, [0, 3])])
    both = Subset.of([(model.used.weight, [0, 3])])
    for matrix in (ggn, hessian):
        assert not matrix(Objective(model, functional.cross_entropy, pair), apart).any()
    linear = Objective(model, lambda outputs, targets: outputs.mean(), pair)
    assert not ggn(linear, both).any()
    assert hessian(linear, both).any()


def conv_net():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).double()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(x.view(len(x), 4, 4)).mean(1))


@pytest.mark.parametrize("build", [conv_net, lambda: Attention().double()])
def test_conv_and_attention_leave_no_trace(build):
    torch.manual_seed(5)
    model = build().train()
    model.requires_grad_(False)
    next(iter(model.parameters())).requires_grad_(True)  # the others are frozen
    inputs = torch.randn(6, 1, 4, 4, dtype=torch.float64)
    objective = Objective(model, functional.cross_entropy, (inputs, torch.arange(6) % 3))
    subset = some(model, 9)  # frozen weights may be in it
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    matrices = ggn(objective, subset), hessian(objective, subset)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for matrix, dense in zip(matrices, (dense_ggn, dense_hessian)):
            torch.testing.assert_close(matrix, dense(objective, subset), **CLOSE)


@pytest.mark.parametrize("build, shape", [(mlp, (5,)), (conv_net, (1, 4, 4)), (lambda: Attention().double(), (16,))])
@pytest.mark.parametrize("name", ["ggn", "hessian"])
def test_ordinary_models_go_the_fast_way(monkeypatch, build, shape, name):
    def refuse(*args):
        raise AssertionError("the slow way was taken")

    module = importlib.import_module(f"qanneal_opt.curvature.{name}")
    monkeypatch.setattr(module, "pull", refuse)
    model, inputs = build(), torch.randn(6, *shape, dtype=torch.float64)
    objective = Objective(model, functional.cross_entropy, (inputs, torch.arange(6) % 3))
    assert getattr(module, name)(objective, some(model, 4)).any()


@pytest.mark.parametrize("matrix", [ggn, hessian])
def test_bad_input(matrix):
    model = mlp()
    pair = data()[functional.mse_loss]
    objective = Objective(model, functional.mse_loss, pair)
    with pytest.raises(ValueError, match=r"Invalid chunk: 0"):
        matrix(objective, some(model), chunk=0)
    with pytest.raises(ValueError, match=r"Invalid subset: a tensor of shape \(2,\)"):
        matrix(objective, Subset.of([(torch.zeros(2), [0])]))
    assert matrix(objective, Subset.of([(model[0].weight, [])])).shape == (0, 0)
    infinite = Objective(model, lambda z, y: (z - y).square().mean() * torch.inf, pair)
    with pytest.raises(ValueError, match=rf"Invalid {'GGN' if matrix is ggn else 'Hessian'}: .* must be finite"):
        matrix(infinite, some(model))


def test_ggn_needs_one_tensor_and_the_hessian_does_not():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            z = self.inner(x)
            return {"logits": z, "norm": z.square().sum()}

    def loss(outputs, targets):
        return functional.cross_entropy(outputs["logits"], targets)

    model, pair = Pair(), data()[functional.cross_entropy]
    plain = Objective(model.inner, functional.cross_entropy, pair)
    torch.testing.assert_close(hessian(Objective(model, loss, pair), some(model)), hessian(plain, some(model)), **CLOSE)
    with pytest.raises(TypeError, match="Invalid outputs: dict"):
        ggn(Objective(model, loss, pair), some(model))


def test_subset_gathers_what_it_scatters():
    params = [torch.randn(2, 3), torch.randn(4, dtype=torch.float64)]
    subset = Subset.of([(params[1], [2]), (params[0], [5, 0]), (params[1], torch.tensor([0]))])
    assert subset.dtype == torch.float64
    assert len(subset) == 4
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    dense = subset.scatter(values)
    assert [t.dtype for t in dense] == [torch.float64, torch.float32]  # in the order in which they were named
    assert torch.equal(subset.gather(dense), values)
    assert torch.equal(dense[0], torch.tensor([4.0, 0, 1, 0], dtype=torch.float64))
    assert torch.equal(subset.direction(1)[1].flatten(), torch.tensor([0.0, 0, 0, 0, 0, 1]))


def test_subsets_by_gain_row_and_chance():
    first, second = torch.zeros(2, 2), torch.zeros(3)
    gains = [torch.tensor([[1.0, 5.0], [-torch.inf, 3.0]]), torch.tensor([5.0, 0.0, 4.0])]
    best = Subset.by_gain([first, second], gains, 4)
    assert best.owner.tolist() == [0, 1, 1, 0]
    assert best.index.tolist() == [1, 0, 2, 3]
    assert len(Subset.by_gain([first, second], gains, 50)) == 6  # -inf stays out
    row = Subset.by_row(first, 1)
    assert (row.owner.tolist(), row.index.tolist()) == ([0, 0], [2, 3])
    draws = [Subset.at_random([first, second], 5, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(draws[0].index, draws[1].index)
    assert not torch.equal(draws[0].index, draws[2].index)
    assert len(set(zip(draws[0].owner.tolist(), draws[0].index.tolist()))) == 5


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda t: Subset.of([(t, [0, 6])]), "Invalid index: 0 to 6; must be in 0 .. 5"),
        (lambda t: Subset.of([(t, [1, 1])]), "Invalid index: a weight is named twice"),
        (lambda t: Subset((t,), torch.tensor([1]), torch.tensor([0])), "Invalid owner: 1"),
        (
            lambda t: Subset((t, t), torch.tensor([0]), torch.tensor([0])),
            "Invalid params: one is named twice",
        ),
        (lambda t: Subset((t,), torch.tensor([0]), torch.tensor([0, 1])), "Invalid index: owner and index"),
        (lambda t: Subset.by_row(t, 2), "Invalid row: 2"),
        (lambda t: Subset.by_row(t[0], 0), "Invalid param: shape"),
        (lambda t: Subset.by_gain([t], [t[0]], 1), "Invalid gains: shapes"),
        (lambda t: Subset.by_gain([t], [t * torch.nan], 1), "Invalid gains: nan"),
        (lambda t: Subset.at_random([t], -1, torch.Generator()), "Invalid k: -1"),
        (lambda t: Subset.by_row(t, 0).scatter(torch.zeros(2)), "Invalid values: shape"),
        (lambda t: Subset.by_row(t, 0).gather([t[0]]), "Invalid tensors: shapes"),
    ],
)
def test_subset_refuses_what_is_no_subset(make, message):
    with pytest.raises(ValueError, match=message):
        make(torch.ones(2, 3))
    with pytest.raises(TypeError, match="Invalid params"):
        Subset.of([(torch.ones(2, dtype=torch.int64), [0])])
    with pytest.raises(IndexError, match="Invalid k: 3"):
        Subset.by_row(torch.ones(2, 3), 0).direction(3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", [nn.Tanh, Old])
def test_row_model_without_threshold_is_the_exact_hessian(loss, activation):
    model = mlp(activation=activation)
    objective = Objective(model, loss, data()[loss], batch_size=4)
    row = row_model(objective, model[0], 2, threshold=0.0)
    subset = Subset.by_row(model[0].weight, 2)
    torch.testing.assert_close(row.H, hessian(objective, subset), **CLOSE)
    torch.testing.assert_close(row.g, gradient(objective, subset), **CLOSE)


def test_row_model_cuts_by_the_standard_error_over_samples():
    model, (inputs, targets) = mlp(), data(n=40)[functional.cross_entropy]
    objective = Objective(model, functional.cross_entropy, (inputs, targets), batch_size=16)
    subset = Subset.by_row(model[0].weight, 1)
    each = [Objective(model, functional.cross_entropy, (inputs[[s]], targets[[s]])) for s in range(40)]
    for name, matrix in (("g", gradient), ("H", hessian)):
        samples = torch.stack([matrix(one, subset) for one in each])
        mean, error = samples.mean(0), samples.std(0) / 40**0.5
        expected = mean.sign() * (mean.abs() - 1.5 * error).clamp(min=0)
        torch.testing.assert_close(getattr(row_model(objective, model[0], 1, threshold=1.5), name), expected, **CLOSE)
        assert 0 < (expected != 0).sum() < expected.numel()


def test_row_model_refuses_what_it_cannot_model():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x))

    model = Twice()
    pair = (torch.randn(4, 3), torch.randn(4, 3))
    objective = Objective(model, functional.mse_loss, pair)
    with pytest.raises(ValueError, match="Invalid layer: called 2 times"):
        row_model(objective, model.layer, 0)
    with pytest.raises(ValueError, match="Invalid layer: Linear"):
        row_model(objective, nn.Linear(3, 3), 0)
    with pytest.raises(ValueError, match="Invalid unit: 3"):
        row_model(objective, model.layer, 3)
    with pytest.raises(ValueError, match="Invalid threshold: -1"):
        row_model(objective, model.layer, 0, threshold=-1.0)
    wide = Objective(model.layer, functional.mse_loss, (torch.randn(4, 2, 3), torch.randn(4, 2, 3)))
    with pytest.raises(ValueError, match=r"Invalid layer: its output has shape \(4, 2, 3\)"):
        row_model(wide, model.layer, 0)
