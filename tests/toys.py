"""Small models, data and training loops for the tests of the optimizer."""

import torch
from torch import nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.optimizer import AnnealingOptimizer
from qanneal_opt.telemetry import AnnealRecord

INPUTS = torch.randn(24, 6, generator=torch.Generator().manual_seed(7))
TARGETS = (INPUTS[:, 0] * INPUTS[:, 1] > 0).long() + (INPUTS[:, 2] > 0.5).long()


def net(seed=0, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def own_loss(outputs, targets):
    """A loss that compiled code does not know: steps take their general path."""
    return functional.cross_entropy(outputs, targets)


def objective(model, loss=own_loss):
    dtype = next(model.parameters()).dtype
    return qa.Objective(model, loss, (INPUTS.to(dtype), TARGETS))


def groups(model, encoding=None):
    """The first layer's weights under `encoding`, the others in a group of their own."""
    first, *rest = model.parameters()
    return [{"params": [first], "encoding": encoding or qa.Levels.binary()}, {"params": rest}]


def make(model, encoding=None, annealing=None, loss=own_loss, **options):
    """An optimizer that anneals `model` by DirectStep unless told otherwise."""
    annealing = annealing or qa.DirectStep(proposals=6, refit=2)
    options = {"lr": 1e-2, "schedule": qa.Every(2), **options}
    return AnnealingOptimizer(groups(model, encoding), objective=objective(model, loss), annealing=annealing, **options)


def loss_of(model, step=0):
    """The loss of a minibatch that the step's number determines."""
    part = slice(8 * (step % 3), 8 * (step % 3) + 8)
    inputs = INPUTS[part].to(next(model.parameters()).dtype)
    return functional.cross_entropy(model(inputs), TARGETS[part])


def train(model, optimizer, steps):
    """Train for `steps` (a range of step numbers, or how many) in the ordinary way."""
    for step in range(steps) if isinstance(steps, int) else steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(left, right):
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right))


def exact(optimizer, param):
    """Whether a discrete parameter is `levels[codes] * scale` to the bit."""
    codes, scale = optimizer.codes(param)
    (group,) = [g for g in optimizer.param_groups if any(p is param for p in g["params"])]
    levels = torch.tensor(group["encoding"].values, dtype=param.dtype)
    return torch.equal(param.detach(), levels[codes] * scale)


class Idle:
    """An annealing step that hands the codes over and does nothing; it keeps what it was called with."""

    name = "idle"

    def __init__(self):
        self.draws = []

    def __call__(self, view, objective, generator):
        loss, _ = view.begin(lambda: float(objective()))
        self.draws.append(int(torch.randint(2**31, (), generator=generator)))
        return AnnealRecord(view.step, self.name, loss_before=loss, loss_after=loss)

    def state_dict(self):
        return {"draws": list(self.draws)}

    def load_state_dict(self, state):
        self.draws = list(state["draws"])
