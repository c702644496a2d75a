"""The compiled stack against full forward passes in float64."""

import copy
import functools
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from qanneal_opt.losses import hinge
from qanneal_opt.moves import Moves
from qanneal_opt.steps.stack import Stack, Unsupported

SMOOTHED = functools.partial(functional.cross_entropy, label_smoothing=0.1)
CASES = {
    "softmax": ([5, 4], None, functional.cross_entropy, 40),
    "one_hidden": ([6, 5, 3], nn.ReLU, functional.cross_entropy, 700),
    "smoothed": ([6, 4, 3], nn.Tanh, SMOOTHED, 33),
    "probabilities": ([4, 5, 4], nn.GELU, nn.CrossEntropyLoss(), 64),
    "two_hidden": ([6, 7, 5, 4], nn.ReLU, functional.cross_entropy, 1300),
    "three_hidden": ([5, 3, 9, 4, 3], nn.SiLU, SMOOTHED, 50),
    "squares": ([4, 6, 2], nn.Softplus, functional.mse_loss, 31),
    "deep_squares": ([4, 3, 5, 1], nn.ELU, nn.MSELoss(), 65),
    "perceptron": ([21, 1], None, hinge(0.5, 21**0.5), 41),
    "hinge": ([7, 4, 2], nn.Sigmoid, hinge(0.3), 20),
    "linear_squares": ([5, 2], None, functional.mse_loss, 1300),
    "linear_hinge": ([6, 3], None, hinge(0.4, 2.0), 700),
    "leaky": ([3, 8, 3], functools.partial(nn.LeakyReLU, 0.2), functional.cross_entropy, 1),
    "clamped": ([5, 6, 3], nn.Hardtanh, functional.cross_entropy, 90),
    "clamped_outputs": ([5, 6, 3], nn.ReLU6, functional.mse_loss, 12),
    "squashed_outputs": ([5, 6, 3], nn.Sigmoid, functional.cross_entropy, 77),
}


def network(dims, activation, outputs=False, bias=True):
    """Linear layers with an activation between them, and behind them if `outputs`."""
    modules = []
    for fan_in, fan_out in pairwise(dims):
        modules += [nn.Linear(fan_in, fan_out, bias=bias), *([activation()] if activation else [])]
    return nn.Sequential(*(modules if outputs or not activation else modules[:-1]))


def problem(name, seed=0):
    """A model, a loss, data, and sample weights for every second seed."""
    dims, activation, loss, count = CASES[name]
    torch.manual_seed(seed)
    model = network(dims, activation, outputs=name.endswith("outputs"), bias=name != "perceptron")
    inputs = torch.randn(count, dims[0])
    if name == "probabilities":
        targets = torch.rand(count, dims[-1])
    elif "squares" in name or name == "clamped_outputs":
        targets = torch.randn(count, dims[-1])
    elif name in ("perceptron", "hinge", "linear_hinge"):
        targets = torch.randint(0, 2, (count, dims[-1])) * 2.0 - 1.0
    else:
        targets = torch.randint(0, dims[-1], (count,))
    return model, loss, inputs, targets, torch.rand(count) + 0.1 if seed % 2 else None


class Reference:
    """The same objective by full forward passes in float64."""

    def __init__(self, model, loss, inputs, targets, weights=None):
        self.model, self.loss = copy.deepcopy(model).double(), loss
        self.inputs = inputs.double()
        self.targets = targets.double() if targets.is_floating_point() else targets
        self.weights = weights
        self.parameters = list(self.model.parameters())

    def __call__(self):
        with torch.no_grad():
            return self.value(*self.parameters)

    def outputs(self, *parameters):
        names = [name for name, _ in self.model.named_parameters()]
        return torch.func.functional_call(self.model, dict(zip(names, parameters)), (self.inputs,))

    def value(self, *parameters):
        if self.weights is None:
            return self.loss(self.outputs(*parameters), self.targets)
        w = self.weights.double() / self.weights.double().sum()
        each = torch.vmap(lambda o, y: self.loss(o[None], y[None]))(self.outputs(*parameters), self.targets)
        return (w * each).sum()

    def changed(self, moves, k):
        """Copies of the parameters after move k."""
        after = [p.detach().clone() for p in self.parameters]
        for c in range(int(moves.start[k]), int(moves.start[k + 1])):
            after[moves.owner[c]].view(-1)[moves.index[c]] = moves.value[c].double()
        return after

    def delta(self, moves, k):
        with torch.no_grad():
            return float(self.value(*self.changed(moves, k)) - self())

    def make(self, moves, k):
        with torch.no_grad():
            for p, new in zip(self.parameters, self.changed(moves, k)):
                p.copy_(new)


def random_moves(parameters, sizes, scale=1.0):
    """Moves of `sizes` changes each, anywhere; no weight twice in one move."""
    places = [(o, i) for o, p in enumerate(parameters) for i in range(p.numel())]
    chosen = [places[k] for size in sizes for k in torch.randperm(len(places))[:size]]
    owner, index = (torch.tensor(part, dtype=torch.int64) for part in zip(*chosen))
    present = torch.stack([parameters[o].detach().view(-1)[i] for o, i in chosen])
    value = present + scale * torch.randn(len(chosen))
    start = torch.tensor([0, *sizes]).cumsum(0)
    return Moves(owner, index, value - present, value, torch.zeros_like(owner), start)


def close(value, expected, relative=2e-6, absolute=1e-7):
    torch.testing.assert_close(
        torch.as_tensor(value, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64).detach(),
        rtol=relative,
        atol=absolute,
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", CASES)
def test_values_slopes_and_changes(name, seed):
    data = problem(name, seed)
    stack, reference = Stack(*data), Reference(*data)
    assert [p.shape for p in stack.parameters] == [p.shape for p in reference.parameters]
    close(stack.load(), reference())

    slopes = torch.autograd.grad(reference.value(*reference.parameters), reference.parameters)
    for mine, slope in zip(stack.gradients(), slopes):
        close(mine, slope, relative=1e-4, absolute=1e-6)

    moves = random_moves(stack.parameters, [1] * 20 + [2, 3, 7])
    deltas = stack.deltas(moves, stack.parameters)
    close(deltas, [reference.delta(moves, k) for k in range(len(moves))], relative=1e-4, absolute=3e-7)
    close(stack.value, reference())  # nothing moved


@pytest.mark.parametrize("name", ["perceptron", "linear_squares", "linear_hinge"])
def test_a_weight_of_a_dead_input_changes_the_objective_by_exactly_nothing(name):
    model, loss, inputs, targets, _ = problem(name)
    inputs[:, 1] = 0.0
    stack, weight = Stack(model, loss, inputs, targets), model[0].weight
    stack.load()
    moves = random_moves([weight], [1] * 60)
    dead = moves.index % inputs.shape[1] == 1
    deltas = stack.deltas(moves, [weight])
    assert 0 < dead.sum() < 60 and bool(((deltas == 0) == dead).all())
    taken = stack.metropolis(moves, [weight], 0.0, torch.zeros(60, dtype=torch.float64))
    assert not bool(taken[dead].any())


@pytest.mark.parametrize("name", CASES)
def test_metropolis_does_what_full_forward_passes_do(name):
    data = problem(name, 1)
    stack, reference = Stack(*data), Reference(*data)
    stack.load()
    for temperature in (0.0, 0.02, torch.full((60,), 0.2)):
        moves = random_moves(stack.weights, [1] * 50 + [2] * 10)
        uniforms = torch.rand(60, dtype=torch.float64)
        taken = stack.metropolis(moves, stack.parameters, temperature, uniforms).tolist()
        for k in range(60):
            delta, heat = reference.delta(moves, k), float(torch.as_tensor(temperature).max())
            chance = 1.0 if delta < 0 else math.exp(-delta / heat) if heat else 0.0
            clear = abs(delta) > 1e-6 and abs(chance - float(uniforms[k])) > 1e-5
            assert not clear or taken[k] == (float(uniforms[k]) < chance)
            if taken[k]:
                reference.make(moves, k)
        close(stack.value, reference())
        for mine, p in zip(stack.weights, reference.parameters):
            assert torch.equal(mine, p.detach().float())
    value = stack.value
    close(value, stack.load(stack.weights))


def test_moves_made_together():
    data = problem("two_hidden")
    stack, reference = Stack(*data), Reference(*data)
    stack.load()
    moves = random_moves(stack.parameters, [9])
    foreseen = float(stack.deltas(moves, stack.parameters))
    reference.make(moves, 0)
    before = stack.value
    spread = Moves(**{**vars(moves), "start": torch.arange(10)})
    close(stack.apply(spread, stack.parameters), reference())
    close(stack.value - before, foreseen, relative=1e-4)
    assert torch.equal(spread.value[-1], stack.weights[spread.owner[-1]].view(-1)[spread.index[-1]])


@pytest.mark.parametrize("name", ["softmax", "one_hidden", "three_hidden", "squashed_outputs", "squares"])
def test_huge_moves_do_not_overflow(name):
    data = problem(name)
    stack, reference = Stack(*data), Reference(*data)
    stack.load()
    for scale in (10.0, 100.0, 3000.0):
        moves = random_moves(stack.weights, [1] * 20 + [4] * 5, scale)
        expected = [reference.delta(moves, k) for k in range(25)]
        close(stack.deltas(moves, stack.parameters), expected, relative=3e-4, absolute=1e-5)
    moves = random_moves(stack.weights, [1] * 20, 100.0)
    stack.metropolis(moves, stack.parameters, 1e9, torch.zeros(20, dtype=torch.float64))
    for k in range(20):
        reference.make(moves, k)
    close(stack.value, reference(), relative=1e-5)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_factors(name, exact):
    data = problem(name, 1)
    stack, reference = Stack(*data), Reference(*data)
    stack.load()
    moves = random_moves(stack.parameters, [1] * 8 + [2] * 2, 0.5)
    factors = stack.factors(moves, stack.parameters, exact=exact)

    now = tuple(p.detach() for p in reference.parameters)
    outputs = reference.outputs(*now)
    changes = []
    for k in range(len(moves)):
        after = reference.changed(moves, k)
        if exact:
            changes.append(reference.outputs(*after) - outputs)
        else:
            changes.append(torch.func.jvp(reference.outputs, now, tuple(a - b for a, b in zip(after, now)))[1])
    each = torch.vmap(torch.func.hessian(lambda o, y, w: w * data[1](o[None], y[None])))
    w = reference.weights.double() / reference.weights.double().sum()
    curvature = each(outputs.detach(), reference.targets, w)  # (N, C, C)
    u = torch.stack(changes).detach()  # (m, N, C)
    expected = torch.einsum("ksc,scd,lsd->kl", u, curvature, u)
    close(factors @ factors.T, expected, relative=1e-4, absolute=1e-6)


@pytest.mark.parametrize("name", ["softmax", "one_hidden", "smoothed", "two_hidden", "squares", "squashed_outputs"])
def test_couplings(name):
    stack = Stack(*problem(name, 1))
    stack.load()
    for sizes in ([1] * 30, [1] * 5 + [2] * 3, []):
        moves = random_moves(stack.parameters, sizes) if sizes else Moves.join([])
        factors = stack.factors(moves, stack.parameters).double()
        close(stack.couplings(moves, stack.parameters), factors @ factors.T, relative=1e-5)
    layers = stack.parameters[-4:]  # weights and biases of the last two layers
    moves = random_moves(layers, [1] * 40)
    factors = stack.factors(moves, layers).double()
    close(stack.couplings(moves, layers), factors @ factors.T, relative=1e-5)


def codes_of(model, levels, owners):
    """Codes drawn at random and scales by row, written to the model."""
    codes, scales = [], []
    with torch.no_grad():
        for p in owners:
            codes.append(torch.randint(len(levels), p.shape, dtype=torch.uint8))
            scales.append(torch.rand(p.shape[0], 1) + 0.5)
            p.copy_(levels[codes[-1].long()] * scales[-1])
    return codes, scales


@pytest.mark.parametrize("levels", [[-1.0, 1.0], [-1.0, 0.0, 1.0], [-2.0, -1.0, 0.0, 1.0, 3.0]])
@pytest.mark.parametrize("name", ["one_hidden", "two_hidden", "squares", "perceptron", "linear_hinge"])
def test_sweeps(name, levels):
    data = problem(name)
    model, levels = data[0], torch.tensor(levels)
    owners = [module.weight for module in model if isinstance(module, nn.Linear)]
    codes, scales = codes_of(model, levels, owners)
    stack = Stack(*data)

    def sweep(temperatures, seed):
        start = stack.load()
        heat = torch.tensor(temperatures, dtype=torch.float64)
        return start, stack.sweep(codes, [levels] * len(owners), scales, owners, heat, seed)

    start, hot = sweep([0.3, 0.15, 0.03], 5)
    weights = sum(p.numel() for p in owners)
    assert hot.proposed == 3 * weights and 0 < hot.accepted < hot.proposed
    assert hot.best_value <= min(start, hot.value)
    for kept, value in ((hot.codes, hot.value), (hot.best_codes, hot.best_value)):
        with torch.no_grad():
            for p, code, scale, old in zip(owners, kept, scales, codes):
                assert code.dtype == torch.uint8 and code.shape == old.shape
                p.copy_(levels[code.long()] * scale)
        close(value, Reference(*data)())
    assert torch.equal(owners[0].detach(), levels[hot.best_codes[0].long()] * scales[0])
    with torch.no_grad():
        for p, code, scale in zip(owners, codes, scales):
            p.copy_(levels[code.long()] * scale)
    _, again = sweep([0.3, 0.15, 0.03], 5)
    assert again.value == hot.value and all(map(torch.equal, again.codes, hot.codes))
    assert not all(map(torch.equal, sweep([0.3, 0.15, 0.03], 6)[1].codes, hot.codes))
    start, cold = sweep([0.0] * 5, 5)
    assert cold.value <= start and cold.value == cold.best_value
    assert all(map(torch.equal, cold.codes, cold.best_codes))


def test_sweeps_draw_from_the_boltzmann_distribution():
    torch.manual_seed(0)
    model, levels, temperature = nn.Linear(3, 1, bias=False), torch.tensor([-1.0, 0.0, 1.0]), 0.5
    data = (model, functional.mse_loss, torch.randn(12, 3), torch.randn(12, 1))
    codes, scales = codes_of(model, levels, [model.weight])
    stack = Stack(*data)
    states = torch.cartesian_prod(*[torch.arange(3)] * 3)
    energies = torch.stack([functional.mse_loss(data[2] @ levels[s] * scales[0], data[3].T) for s in states])
    expected = torch.softmax(-energies / temperature, 0)
    stack.load()
    seen, draws = torch.zeros(27), 6000
    heat = torch.tensor([temperature], dtype=torch.float64)
    for seed in range(draws):
        codes = stack.sweep(codes, [levels], scales, [model.weight], heat, seed).codes
        seen[(codes[0].long() * torch.tensor([9, 3, 1])).sum()] += 1
    error = (seen / draws - expected).abs().sum()
    assert error < 0.08  # 6000 independent draws give 0.05 on average


def test_sweeps_refuse_codes_that_are_not_the_weights():
    data = problem("one_hidden")
    weight, levels = data[0][0].weight, torch.tensor([-1.0, 1.0])
    codes, scales = codes_of(data[0], levels, [weight])
    stack, heat = Stack(*data), torch.zeros(1)
    stack.load()
    for bad in (1 - codes[0], codes[0] + 2, codes[0][:1]):
        with pytest.raises(ValueError, match="Invalid codes"):
            stack.sweep([bad], [levels], scales, [weight], heat, 0)
    with pytest.raises(ValueError, match="Invalid moves"):
        stack.deltas(random_moves([torch.zeros(1000)], [1] * 50), [weight])


@pytest.mark.parametrize("name", ["one_hidden", "two_hidden", "squares", "softmax", "hinge"])
@pytest.mark.parametrize("kind", ["row", "tensor", "first", "none"])
def test_refit(name, kind):
    model, loss, inputs, targets, weights = problem(name, 1)
    linears = [module for module in model if isinstance(module, nn.Linear)]
    scaled = [] if kind == "none" else [m.weight for m in linears[: 1 if kind == "first" else None]]
    trained = [p for p in model.parameters() if all(p is not q for q in scaled)]
    signs = [p.detach().sign() for p in scaled]
    scales = [torch.tensor(0.3) if kind == "tensor" else torch.rand(len(p), 1) + 0.01 for p in scaled]
    stack = Stack(model, loss, inputs, targets, weights)
    stack.load()
    refit = stack.refit(scaled, scales, trained)
    refit.load(signs, scales)

    reference = Reference(model, loss, inputs, targets, weights)
    free = [v.detach().double().clone().requires_grad_() for v in [*scales, *trained]]
    at = {id(p): k for k, p in enumerate([*scaled, *trained])}

    def objective():
        made = [free[at[id(p)]] for p in model.parameters()]
        for k, p in enumerate(model.parameters()):
            for q, sign in zip(scaled, signs):
                if p is q:
                    made[k] = sign.double() * made[k]
        return reference.value(*made)

    value = objective()
    slopes = torch.autograd.grad(value, free)
    close(refit.evaluate(), value)
    for mine, slope in zip(refit.gradients, slopes):
        assert mine.shape == slope.shape
        close(mine, slope, relative=1e-4, absolute=1e-6)

    # A large eps: where a slope is 0, Adam would make steps of the rounding error.
    adam = torch.optim.Adam(free, lr=5e-3, betas=(0.9, 0.99), eps=1e-3)
    moments = [(torch.zeros_like(v), torch.zeros_like(v), torch.zeros(())) for v in refit.values]
    for steps in (3, 4):
        for _ in range(steps):
            adam.zero_grad()
            objective().backward()
            before = [scale.detach().clone() for scale in free[: len(scaled)]]
            adam.step()
            for scale, old in zip(free, before):
                scale.data = torch.where(scale > 0, scale, old / 2).detach()
        close(refit.train(steps, moments, lr=5e-3, betas=(0.9, 0.99), eps=1e-3), objective(), relative=1e-5)
    for mine, v, (mean, square, count) in zip(refit.values, free, moments):
        close(mine, v, relative=1e-4, absolute=2e-5)
        close(mean, adam.state[v]["exp_avg"], relative=1e-3, absolute=1e-5)
        close(square, adam.state[v]["exp_avg_sq"], relative=1e-3, absolute=1e-6)
        assert count == 7
    close(stack.value, objective(), relative=1e-5)
    close(stack.deltas(random_moves(stack.weights, [1], 0.0), stack.parameters), [0.0])


def test_two_threads():
    data = problem("two_hidden")
    levels = torch.tensor([-1.0, 1.0])
    weight = data[0][0].weight
    codes, scales = codes_of(data[0], levels, [weight])

    def work(seed):
        stack = Stack(*data)
        stack.load()
        return stack.sweep(codes, [levels], scales, [weight], torch.full((40,), 0.1), seed)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(work, (1, 2)))
    for seed, one in zip((1, 2), both):
        assert work(seed).value == one.value


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def shared():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def hooked():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_forward_hook(lambda module, args, output: output + 1)
    return model


def replaced():
    model = nn.Linear(4, 4)
    model.forward = lambda x: x
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (shared, "share"),
        (hooked, "hooks"),
        (replaced, "forward"),
        (lambda: nn.Sequential(Twice(4, 4)), "Twice"),
        (lambda: nn.Linear(4, 4).double(), "float64"),
        (lambda: nn.Linear(4, 4, device="meta"), "meta"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "Parametrized"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "BatchNorm1d"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Tanh()), "activation"),
        (lambda: nn.Sequential(nn.Linear(4, 5), nn.Linear(4, 4)), "cannot follow"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.GELU("tanh")), "GELU"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Flatten(0)), "flattened"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Flatten(0), nn.ReLU()), "Flatten"),
        (nn.ReLU, "no Linear"),
        (lambda: nn.Linear(3, 4), "inputs"),
        (lambda: nn.Linear(4, 3), "classes below 3"),
    ],
)
def test_models_that_are_refused(model, reason):
    with pytest.raises(Unsupported, match=reason):
        Stack(model(), functional.cross_entropy, torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))


@pytest.mark.parametrize(
    ("loss", "inputs", "targets", "weights"),
    [
        (lambda o, y: o.sum(), torch.zeros(6, 4), torch.zeros(6, 2), None),
        (functional.l1_loss, torch.zeros(6, 4), torch.zeros(6, 2), None),
        (functional.mse_loss, torch.zeros(6, 4), torch.zeros(6), None),
        (functional.mse_loss, torch.zeros(6, 4), [1.0], None),
        (functional.mse_loss, [1.0], torch.zeros(6, 2), None),
        (functional.mse_loss, torch.zeros(0, 4), torch.zeros(0, 2), None),
        (functional.mse_loss, torch.zeros(2, 3, 4), torch.zeros(2, 3, 2), None),
        (functional.mse_loss, torch.zeros(6, 4), torch.zeros(6, 2), torch.ones(5)),
        (hinge(1.0), torch.zeros(6, 4), torch.zeros(6, 2), None),
        (functional.cross_entropy, torch.zeros(6, 4), torch.full((6,), -100), None),
        (functional.cross_entropy, torch.zeros(6, 4), torch.zeros(5, dtype=torch.int64), None),
        (functional.cross_entropy, torch.zeros(6, 4), -torch.ones(6, 2), None),
    ],
)
def test_data_that_is_refused(loss, inputs, targets, weights):
    with pytest.raises(Unsupported, match="Invalid"):
        Stack(nn.Linear(4, 2), loss, inputs, targets, weights)


def test_what_stands_around_the_layers():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(12, 5), nn.Dropout(0.5), nn.ReLU(inplace=True))
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), inner, nn.Identity(), nn.Linear(5, 1), nn.Flatten(0))
    inputs, targets = torch.randn(9, 3, 4), torch.randn(9)
    given = inputs.clone()
    stack = Stack(model, functional.mse_loss, inputs, targets)
    assert torch.equal(inputs, given)
    close(stack.load(), functional.mse_loss(model.eval()(inputs.clone()), targets))


def test_a_stack_cannot_be_copied():
    stack = Stack(*problem("softmax"))
    with pytest.raises(TypeError, match="copied"):
        copy.deepcopy(stack)
