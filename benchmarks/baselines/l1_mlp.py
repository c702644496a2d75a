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
    """Of a network with one hidden layer and logistic or squared loss, and of its training."""

    activation: str
    hidden: int
    lr: float
    l1: float
    weight_decay: float = 0.01
    batch: int = 300
    loss: str = "logistic"


def train(
    inputs: Tensor, labels: Tensor, setting: Setting, *, cap: int, seed: int, done: Callable[[nn.Module], bool]
) -> tuple[nn.Module, int]:
    """Train on `(N, n)` inputs and labels -1, 1 until `done(model)` or for `cap` ge; the model and the ge spent.

    A pass over all the samples is one ge whatever the batch; the looks of `done` are free.
    """
    count, n = inputs.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(n, setting.hidden), ACTIVATIONS[setting.activation](), nn.Linear(setting.hidden, 1)
        )
    first = next(model.parameters())
    base = torch.optim.AdamW(model.parameters(), lr=setting.lr, weight_decay=setting.weight_decay, fused=True)
    generator = torch.Generator().manual_seed(seed)
    for spent in range(1, cap + 1):
        for part in torch.randperm(count, generator=generator).split(setting.batch):
            outputs, targets = model(inputs[part])[:, 0], labels[part]
            if setting.loss == "squared":
                loss = functional.mse_loss(outputs, targets)
            else:
                loss = functional.softplus(-targets * outputs).mean()
            base.zero_grad()
            (loss + setting.l1 * first.abs().sum()).backward()
            base.step()
        if spent % CHECK == 0 and done(model):
            return model, spent
    return model, cap
