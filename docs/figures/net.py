"""The small network of the figures: digits, 64-6-10, binary weights, trained straight-through."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import qanneal_opt as qa


class Net(nn.Module):
    """Two layers. A module of its own, so that annealing takes its general path: a build compiles nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 6), nn.Linear(6, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, `(N, 10)`."""
        return self.second(torch.relu(self.first(inputs)))

    @property
    def weights(self) -> list[Tensor]:
        """The binary parameters."""
        return [self.first.weight, self.second.weight]

    @property
    def biases(self) -> list[Tensor]:
        """The continuous ones."""
        return [self.first.bias, self.second.bias]


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Pixels in 0 .. 1, `(1797, 64)`, and classes."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(classes)


def groups(net: Net) -> list[dict[str, object]]:
    """Parameter groups: binary weights, one scale a row, and continuous biases."""
    return [{"params": net.weights, "encoding": qa.Levels.binary()}, {"params": net.biases}]


def objective(net: Net) -> qa.Objective:
    """Mean cross-entropy over all digits."""
    return qa.Objective(net, cross_entropy, digits())


def trained(steps: int = 1000) -> Net:
    """The network after straight-through steps on all the data with a falling learning rate."""
    inputs, targets = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
    optimizer = qa.AnnealingOptimizer(groups(net), lr=1e-2, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        optimizer.zero_grad()
        cross_entropy(net(inputs), targets).backward()
        optimizer.step()
    return net
