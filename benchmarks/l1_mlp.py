"""AdamW with an L1 penalty on the first layer: what gradients have to find sparse structure with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}
CHECK = 10  # ge between looks at the stopping condition


@dataclass(frozen=True)
class Setting:
    """Of a network with one hidden layer, and of its training: `objective` is `"logistic"` or `"squared"`.

    Every `restart` ge training begins anew; 0 for never.
    """

    activation: str
    hidden: int
    lr: float
    l1: float
    weight_decay: float = 0.01
    batch: int = 300
    objective: str = "logistic"
    restart: int = 0


def train(
    inputs: Tensor,
    labels: Tensor,
    setting: Setting,
    *,
    cap: int,
    seed: int,
    done: Callable[[nn.Module], bool],
) -> tuple[nn.Module, int]:
    """Train on inputs `(N, n)` and labels -1, 1 until `done(model)` or for `cap` ge; model and ge spent.

    A pass over all the samples is one ge whatever the batch; the looks of `done` are free.
    """
    generator = torch.Generator().manual_seed(seed)
    model, first, base = _start(inputs.shape[1], setting, generator)
    for spent in range(1, cap + 1):
        for part in torch.randperm(len(inputs), generator=generator).split(setting.batch):
            outputs, targets = model(inputs[part])[:, 0], labels[part]
            if setting.objective == "squared":
                loss = functional.mse_loss(outputs, targets)
            else:
                loss = functional.softplus(-targets * outputs).mean()
            base.zero_grad()
            (loss + setting.l1 * first.abs().sum()).backward()
            base.step()
        if spent % CHECK == 0 and done(model):
            return model, spent
        if setting.restart and spent % setting.restart == 0:
            model, first, base = _start(inputs.shape[1], setting, generator)
    return model, cap


def _start(n: int, setting: Setting, generator: torch.Generator) -> tuple[nn.Sequential, Tensor, torch.optim.Optimizer]:
    """A seeded network, its first layer's weights and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31 - 1, (), generator=generator)))
        hidden = nn.Linear(n, setting.hidden)
        model = nn.Sequential(hidden, ACTIVATIONS[setting.activation](), nn.Linear(setting.hidden, 1))
    base = torch.optim.AdamW(model.parameters(), lr=setting.lr, weight_decay=setting.weight_decay, fused=True)
    return model, hidden.weight, base
