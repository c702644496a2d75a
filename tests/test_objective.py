"""The objective against sums written out by hand, and what it must not leave behind."""

# ruff: noqa: NPY002 - numpy's global generator is among what must stay as it is

import copy
import random
from collections import namedtuple
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from qanneal_opt.objective import Objective
from tests.cases import CASES, DOUBLE, N, branching_loss, call

ENTROPY = CASES["cross_entropy"]
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0, 0.0, 0.25, 1.0, 1.0, 0.125, 4.0], dtype=DOUBLE)
every_case = pytest.mark.parametrize("case", CASES.values(), ids=str)


# ---------------------------------------------------------------------------------------------- values


@every_case
@pytest.mark.parametrize("batch_size", [None, 1, 3, N, 50])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_value_is_the_mean_over_samples(case, batch_size, weights):
    model = case.make()
    value = Objective(model, case.loss, case.data, batch_size=batch_size, weights=weights)()
    assert value.shape == () and not value.requires_grad
    assert float(value) == pytest.approx(case.reference(model, weights), rel=1e-12)


def test_one_batch_is_the_loss_itself_bit_for_bit():
    model = ENTROPY.make()
    inputs, targets = ENTROPY.data
    assert torch.equal(Objective(model, ENTROPY.loss, ENTROPY.data)(), ENTROPY.loss(model(inputs), targets))


def test_batches_of_no_weight_are_left_out():
    weights = torch.zeros(N)
    weights[4] = 2.0
    model = ENTROPY.make()
    value = Objective(model, ENTROPY.loss, ENTROPY.data, batch_size=2, weights=weights)()
    assert float(value) == pytest.approx(ENTROPY.reference(model, weights), rel=1e-12)


def test_weights_may_be_integers_bools_or_a_list():
    model = ENTROPY.make()
    chosen = [1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1]
    expected = ENTROPY.reference(model, chosen)
    for weights in (chosen, torch.tensor(chosen), torch.tensor(chosen).bool()):
        value = Objective(model, ENTROPY.loss, ENTROPY.data, weights=weights)()
        assert float(value) == pytest.approx(expected, rel=1e-12)


def test_weights_reach_outputs_of_any_structure():
    Out = namedtuple("Out", "logits extra")

    class Structured(nn.Linear):
        def forward(self, x):
            return Out(super().forward(x), {"mean": x.mean(1), "none": None})

    def loss(outputs, targets):
        return functional.cross_entropy(outputs.logits, targets) + outputs.extra["mean"].square().mean()

    model = Structured(4, 3).double()
    x, y = ENTROPY.data
    parts = torch.stack([loss(model(x[s : s + 1]), y[s : s + 1]) for s in range(N)])
    expected = (parts * WEIGHTS).sum() / WEIGHTS.sum()
    torch.testing.assert_close(Objective(model, loss, (x, y), weights=WEIGHTS)(), expected)


def test_targets_keep_their_structure():
    Target = namedtuple("Target", "label weight")

    def loss(outputs, targets):
        return (functional.cross_entropy(outputs, targets.label, reduction="none") * targets.weight).mean()

    x, y = ENTROPY.data
    model = ENTROPY.make()
    expected = loss(model(x), Target(y, WEIGHTS))
    torch.testing.assert_close(Objective(model, loss, (x, Target(y, WEIGHTS)), batch_size=4)(), expected)


def test_the_present_weights_count():
    case = CASES["mse"]
    model = case.make()
    objective = Objective(model, case.loss, case.data)
    with torch.no_grad():
        model[0].weight.mul_(-2)
    assert float(objective()) == pytest.approx(case.reference(model), rel=1e-12)


# ------------------------------------------------------------------------------------------- gradients


@every_case
@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_the_gradient_is_autograds(case, batch_size, weights):
    model = case.make()
    params = list(model.parameters())
    value, grads = Objective(model, case.loss, case.data, batch_size=batch_size, weights=weights).gradient(params)
    twin = copy.deepcopy(model).eval()
    inputs, targets = case.data
    losses = []
    for s in range(N):
        one = {k: v[s : s + 1] for k, v in inputs.items()} if isinstance(inputs, dict) else None
        one = one or (tuple(v[s : s + 1] for v in inputs) if isinstance(inputs, tuple) else inputs[s : s + 1])
        losses.append(case.loss(call(twin, one), targets[s : s + 1]))
    shares = torch.ones(N, dtype=DOUBLE) if weights is None else weights
    whole = (torch.stack(losses) * shares).sum() / shares.sum()
    whole.backward()
    torch.testing.assert_close(value, whole.detach())
    torch.testing.assert_close(grads, [p.grad for p in twin.parameters()], rtol=1e-10, atol=1e-12)
    assert all(p.grad is None for p in params)


def test_parameters_without_a_part_get_zeros():
    model = ENTROPY.make()
    other = torch.ones(3, requires_grad=True)
    _, grads = Objective(model, ENTROPY.loss, ENTROPY.data).gradient([other, model[0].bias])
    assert torch.equal(grads[0], torch.zeros(3)) and bool(grads[1].any())
    errors = Objective(model, lambda o, y: (o.argmax(1) != y).double().mean(), ENTROPY.data)
    value, grads = errors.gradient(list(model.parameters()))
    assert float(value) == float(errors()) and not any(bool(grad.any()) for grad in grads)
    assert Objective(model, ENTROPY.loss, ENTROPY.data).gradient([])[1] == []


class Sum(nn.Module):
    """Two parameters that autograd gives the very same gradient tensor, expanded from one number."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(3, 4))

    def forward(self, x):
        return x * (self.a + self.b).sum()


class MatrixSum(Sum):
    """The same with one gradient tensor of its own memory for both."""

    def forward(self, x):
        return x[:, None].expand(-1, 3) @ (self.a + self.b)


@pytest.mark.parametrize("batch_size", [None, 1, 2])
@pytest.mark.parametrize(("kind", "expected"), [(Sum, 3.0), (MatrixSum, 0.75)])
def test_gradients_that_share_memory_are_told_apart(kind, expected, batch_size):
    model, x = kind(), torch.arange(1.0, 6.0)
    objective = Objective(model, lambda o, y: o.mean(), (x, torch.ones(5)), batch_size=batch_size)
    _, grads = objective.gradient([model.a, model.b])
    for grad in grads:
        torch.testing.assert_close(grad, torch.full((3, 4), expected))


def test_gradients_lie_in_memory_as_their_parameters_do():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    model = nn.Sequential(conv, nn.Flatten(), Sum())
    objective = Objective(model, lambda o, y: (o.sum(1) - y).square().mean(), (torch.randn(5, 3, 4, 4), torch.ones(5)))
    params = list(model.parameters())
    for grad, param in zip(objective.gradient(params)[1], params):
        assert grad.stride() == param.stride()


# ---------------------------------------------------------------------------------------------- loaders


class Noisy(Dataset):
    """Samples whose inputs are drawn anew whenever they are read, from all global generators."""

    def __len__(self):
        return 8

    def __getitem__(self, k):
        noise = torch.rand(4, dtype=DOUBLE) + np.random.rand() + random.random()
        return noise, k % 3


def loaders():
    data = TensorDataset(*ENTROPY.data)
    own = torch.Generator().manual_seed(7)
    yield "plain", DataLoader(data, batch_size=4)
    yield "shuffled", DataLoader(data, batch_size=4, shuffle=True)
    yield "own generator", DataLoader(data, batch_size=4, shuffle=True, generator=own)
    yield "own sampler", DataLoader(data, batch_size=3, sampler=RandomSampler(data, generator=own))
    yield (
        "batch sampler",
        DataLoader(data, batch_sampler=torch.utils.data.BatchSampler(RandomSampler(data), 4, False)),
    )
    yield "not batched", DataLoader([(x[None], y[None]) for x, y in data], batch_size=None, shuffle=True)


@pytest.mark.parametrize("loader", [pytest.param(loader, id=name) for name, loader in loaders()])
@pytest.mark.parametrize("through", [lambda x: x, lambda x: lambda: x], ids=["loader", "callable"])
def test_a_loader_gives_the_mean_over_its_samples(loader, through):
    model = ENTROPY.make()
    objective = Objective(model, ENTROPY.loss, through(loader))
    assert float(objective()) == pytest.approx(ENTROPY.reference(model), rel=1e-12)
    params = list(model.parameters())
    expected = Objective(model, ENTROPY.loss, ENTROPY.data).gradient(params)[1]
    torch.testing.assert_close(objective.gradient(params)[1], expected)


def test_a_loader_gives_the_same_samples_at_each_pass():
    some = RandomSampler(TensorDataset(*ENTROPY.data), num_samples=5)
    loader = DataLoader(TensorDataset(*ENTROPY.data), batch_size=2, sampler=some)
    for data in (loader, DataLoader(Noisy(), batch_size=3, shuffle=True)):
        objective = Objective(ENTROPY.make(), ENTROPY.loss, data)
        first = [batch.inputs for batch in objective.batches()]
        torch.rand(3), np.random.rand(), random.random()
        again = [batch.inputs for batch in objective.batches()]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert float(objective()) == float(objective())


def test_a_pair_may_hide_behind_a_callable():
    model = ENTROPY.make()
    objective = Objective(model, ENTROPY.loss, lambda: ENTROPY.data, batch_size=4, weights=WEIGHTS)
    assert float(objective()) == pytest.approx(ENTROPY.reference(model, WEIGHTS), rel=1e-12)
    assert sum(len(batch.targets) for batch in objective.batches()) == N


def test_workers_and_the_users_own_pass_over_the_same_loader():
    loader = DataLoader(TensorDataset(*ENTROPY.data), 2, num_workers=1, persistent_workers=True)
    model = ENTROPY.make()
    objective = Objective(model, ENTROPY.loss, loader)
    seen = []
    for x, _ in loader:
        if not seen:
            assert float(objective()) == pytest.approx(ENTROPY.reference(model), rel=1e-12)
        seen.append(x)
    assert torch.equal(torch.cat(seen), ENTROPY.data[0])


# ------------------------------------------------------------------------------------------- no trace


class Meddler(nn.Module):
    """Draws from every global generator and writes buffers in each way there is, in eval mode too."""

    def __init__(self, fail=False):
        super().__init__()
        self.norm, self.drop, self.out = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)
        self.register_buffer("in_place", torch.zeros(2))
        self.register_buffer("rebound", torch.zeros(2))
        self.register_buffer("empty", None)
        self.register_buffer("nan", torch.tensor(float("nan")))
        self.norm.eval()  # a mixture of modes
        self.fail = fail

    def forward(self, x):
        self.in_place += 1
        self.rebound = self.rebound + 1
        self.empty = torch.ones(1)
        noise = torch.randn(()) + np.random.rand() + random.random()
        if self.fail:
            raise ArithmeticError("on purpose")
        return self.out(self.drop(self.norm(x))) + noise.to(x.dtype)


def state(model, loader=None):
    """All that a look at the objective must not change, in comparable form."""
    tensors = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        grad = None if getattr(tensor, "grad", None) is None else (id(tensor.grad), tensor.grad.tolist())
        tensors[name] = (id(tensor), repr(tensor.tolist()), tensor.requires_grad, grad)
    return {
        "tensors": tensors,
        "modes": [module.training for module in model.modules()],
        "buffers": [list(module._buffers) for module in model.modules()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "python": random.getstate(),
        "loader": loader and loader.generator.get_state().tolist(),
        "grad mode": torch.is_grad_enabled(),
    }


def looks(objective):
    """Every way of looking at an objective, some of which stop in the middle."""
    params = list(objective.model.parameters())
    yield "value", objective
    yield "gradient", lambda: objective.gradient(params)

    def early():
        for _ in objective.batches():
            break

    def raising():
        with objective.frozen():
            for batch in objective.batches():
                objective.forward(batch)
                torch.rand(1), np.random.rand(), random.random()
                raise KeyError("on purpose")

    yield "early", early
    yield "raising", raising


@pytest.mark.parametrize("fail", [False, True], ids=["sound", "failing"])
@pytest.mark.parametrize("kind", ["pair", "loader", "noisy", "callable"])
@pytest.mark.parametrize("look", ["value", "gradient", "early", "raising"])
def test_looking_leaves_no_trace(kind, look, fail):
    x, y = ENTROPY.data
    own = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True, generator=own)

    def drawn():
        chosen = torch.randint(N, (5,)) + int(np.random.rand() + random.random() < 0)
        return x[chosen], y[chosen]

    data = {
        "pair": (x, y),
        "loader": loader,
        "noisy": DataLoader(Noisy(), batch_size=3, shuffle=True),
        "callable": drawn,
    }
    model = Meddler(fail).double()
    model.out.weight.grad = torch.ones_like(model.out.weight)
    objective = Objective(model, functional.cross_entropy, data[kind])
    before = state(model, loader)
    with suppress(ArithmeticError, KeyError):
        dict(looks(objective))[look]()
    if look == "early" and kind == "callable":
        return  # outside frozen() the user's own callable is asked without a guard
    assert state(model, loader) == before


def test_an_exception_leaves_nothing_for_later():
    """Nothing is put back when the traceback, and the generators that hang on it, are let go of."""
    objective = Objective(Meddler(fail=True).double(), functional.cross_entropy, DataLoader(Noisy(), 3, shuffle=True))
    try:
        objective()
    except ArithmeticError as error:
        kept = error
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = state(objective.model)
    del kept
    assert state(objective.model) == before


def test_a_dataset_that_raises_leaves_no_trace():
    class Broken(Noisy):
        def __getitem__(self, k):
            super().__getitem__(k)
            raise ArithmeticError("on purpose")

    objective = Objective(ENTROPY.make(), ENTROPY.loss, DataLoader(Broken(), 3, shuffle=True))
    before = state(objective.model)
    with pytest.raises(ArithmeticError):
        list(objective.batches())  # without the guards of frozen()
    assert state(objective.model) == before


def test_buffers_that_nobody_wrote_are_not_touched():
    model = CASES["normalised"].make().train()
    versions = [buffer._version for buffer in model.buffers()]
    Objective(model, functional.cross_entropy, CASES["normalised"].data)()
    assert [buffer._version for buffer in model.buffers()] == versions
    assert model.training and model[1].training


def test_the_model_is_judged_in_eval_mode():
    case = CASES["normalised"]
    model = case.make().train()
    inputs, targets = case.data
    expected = case.loss(copy.deepcopy(model).eval()(inputs), targets)
    assert torch.equal(Objective(model, case.loss, case.data)(), expected.detach())


def test_a_model_that_differentiates_leaves_no_graph():
    class Force(nn.Linear):
        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                return torch.autograd.grad(super().forward(x).square().sum(), x, create_graph=True)[0]

    model = Force(4, 2).double()
    x = ENTROPY.data[0]
    value = Objective(model, functional.mse_loss, (x, torch.zeros_like(x)))()
    assert not value.requires_grad


# --------------------------------------------------------------------------------------------- frozen


def test_freezing_asks_a_callable_once_and_may_be_nested():
    asked = []

    def data():
        asked.append(1)
        return ENTROPY.data

    model = ENTROPY.make().train()
    objective = Objective(model, ENTROPY.loss, data)
    with objective.frozen():
        objective()
        with objective.frozen():
            assert not model.training
            objective.gradient(list(model.parameters()))
        assert not model.training and len(asked) == 1
        objective()
    assert model.training and len(asked) == 1
    objective()
    assert len(asked) == 2


def test_a_noisy_model_draws_the_same_at_each_pass_while_frozen():
    class Noise(nn.Linear):
        def forward(self, x):
            return super().forward(functional.dropout(x, 0.5))  # always on: training=True is the default

    objective = Objective(Noise(4, 3).double(), ENTROPY.loss, ENTROPY.data, batch_size=4)
    with objective.frozen():
        assert float(objective()) == float(objective())
        assert float(objective.gradient([])[0]) == float(objective())


def test_an_exception_thaws():
    model = ENTROPY.make().train()
    objective = Objective(model, ENTROPY.loss, ENTROPY.data)
    with pytest.raises(KeyError), objective.frozen():
        raise KeyError
    assert model.training
    with objective.frozen():
        assert not model.training
    assert model.training


def test_smoothing_shares_what_is_frozen_and_no_more():
    model = ENTROPY.make()
    inputs, targets = ENTROPY.data
    asked = []
    objective = Objective(model, ENTROPY.loss, lambda: asked.append(1) or ENTROPY.data)
    with objective.frozen():
        smooth = objective.smoothed(0.1)
        assert smooth is not objective and objective.smoothed(0.0) is objective
        expected = functional.cross_entropy(model(inputs), targets, label_smoothing=0.1)
        assert torch.equal(smooth(), expected.detach()) and len(asked) == 1
    model.train()
    with smooth.frozen():
        assert not model.training
    assert model.training and len(asked) == 2
    with pytest.raises(ValueError, match=r"Invalid smoothing: 0\.1; .*cross_entropy"):
        Objective(model, functional.mse_loss, ENTROPY.data).smoothed(0.1)


# ---------------------------------------------------------------------------------------- trouble


def test_nan_data_give_nan():
    x, y = ENTROPY.data[0].clone(), ENTROPY.data[1]
    x[3, 2] = torch.nan
    model = ENTROPY.make()
    for weights in (None, WEIGHTS):
        objective = Objective(model, ENTROPY.loss, (x, y), batch_size=4, weights=weights)
        assert bool(objective().isnan())
        value, grads = objective.gradient(list(model.parameters()))
        assert bool(value.isnan()) and bool(grads[0].isnan().any())


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (
            lambda o, y: functional.cross_entropy(o, y, reduction="none"),
            ValueError,
            r"Invalid loss: .*float64.*0-d",
        ),
        (lambda o, y: (o.argmax(1) == y).sum(), ValueError, r"Invalid loss: .*int64.*0-d floating"),
        (lambda o, y: 0.5, TypeError, r"Invalid loss: it returned 0\.5; a 0-d tensor"),
        (lambda o, y: o + torch.ones(77), RuntimeError, "77"),  # the loss's own mistake, in its own words
    ],
)
def test_losses_that_are_none(loss, error, message, weights):
    objective = Objective(ENTROPY.make(), loss, ENTROPY.data, weights=weights)
    with pytest.raises(error, match=message):
        objective()


def test_weights_need_one_output_a_sample():
    objective = Objective(ENTROPY.make(), lambda o, y: o.mean(), (torch.randn(N, 2, 4).double(), torch.ones(N)))
    objective()
    flat = nn.Sequential(ENTROPY.make(), nn.Flatten(0, 1))
    objective = Objective(flat, lambda o, y: o.mean(), (torch.randn(N, 2, 4).double(), torch.ones(N)), weights=WEIGHTS)
    with pytest.raises(ValueError, match=r"Invalid outputs: lengths \[11, 22\]"):
        objective()


X, Y = ENTROPY.data


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": torch.sin}, TypeError, "Invalid model: builtin_function_or_method"),
        ({"loss": "mse"}, TypeError, "Invalid loss: 'mse'"),
        ({"data": X}, TypeError, "Invalid data: Tensor; an .inputs, targets. pair"),
        ({"data": (X, Y, Y)}, TypeError, "Invalid data: tuple"),
        ({"data": (X.numpy(), Y)}, TypeError, "Invalid data: ndarray; tensors"),
        ({"data": (X, None)}, TypeError, "Invalid data: NoneType; tensors"),
        ({"data": (X, torch.tensor(1.0))}, TypeError, r"Invalid data: a tensor of shape \(\); tensors"),
        ({"data": (X, ())}, TypeError, "Invalid data: tuple; tensors"),
        ({"data": (X, Y[:5])}, ValueError, r"Invalid data: lengths \[5, 11\]"),
        ({"data": ((X, X[:4]), Y)}, ValueError, r"Invalid data: lengths \[4, 11\]"),
        ({"data": (X[:0], Y[:0])}, ValueError, r"Invalid data: lengths \[0\]"),
        ({"batch_size": 0}, ValueError, "Invalid batch_size: 0"),
        ({"batch_size": 2.5}, ValueError, "Invalid batch_size: 2.5"),
        ({"batch_size": True}, ValueError, "Invalid batch_size: True"),
        ({"weights": WEIGHTS[:4]}, ValueError, r"Invalid data: lengths \[4, 11\]"),
        ({"weights": -WEIGHTS}, ValueError, r"Invalid weights: tensor\(.*finite non-negative"),
        ({"weights": 0 * WEIGHTS}, ValueError, "Invalid weights: tensor.*not all 0"),
        ({"weights": WEIGHTS / 0}, ValueError, "Invalid weights: tensor"),
        ({"weights": WEIGHTS[:, None]}, ValueError, "Invalid weights: tensor"),
        (
            {"data": DataLoader([(1, 2)]), "weights": WEIGHTS},
            ValueError,
            "Invalid weights: a DataLoader has its own",
        ),
        (
            {"data": DataLoader([(1, 2)]), "batch_size": 4},
            ValueError,
            "Invalid batch_size: a DataLoader has its own",
        ),
    ],
)
def test_bad_arguments_are_named_with_their_values(change, error, message):
    arguments = {"model": ENTROPY.make(), "loss": ENTROPY.loss, "data": ENTROPY.data, **change}
    with pytest.raises(error, match=f"(?s){message}"):
        Objective(arguments.pop("model"), arguments.pop("loss"), arguments.pop("data"), **arguments)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (DataLoader([{"x": 1.0, "y": 2.0}]), TypeError, "Invalid data: a DataLoader that gives dict"),
        (DataLoader(TensorDataset(X, Y, Y)), TypeError, "Invalid data: a DataLoader that gives list"),
        (DataLoader([("text", "text")]), TypeError, "Invalid data: str; tensors"),
        (
            DataLoader(TensorDataset(X, Y), batch_size=50, drop_last=True),
            ValueError,
            "Invalid data: DataLoader without",
        ),
        (lambda: X, TypeError, "Invalid data: Tensor"),
        (lambda: (X, Y[:3]), ValueError, r"Invalid data: lengths \[3, 11\]"),
    ],
)
def test_bad_data_are_told_when_they_are_read(data, error, message):
    model = ENTROPY.make().train()
    objective = Objective(model, ENTROPY.loss, data)
    for look in (objective, lambda: objective.gradient(list(model.parameters()))):
        with pytest.raises(error, match=message):
            look()
    assert model.training


def test_a_loss_that_vmap_cannot_take_is_differentiable_too():
    case = CASES["branching"]
    model = case.make()
    _, grads = Objective(model, branching_loss, case.data, weights=WEIGHTS).gradient([model[2].bias])
    assert bool(grads[0].any())
