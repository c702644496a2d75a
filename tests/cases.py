"""Small models with a loss and data, each with its mean loss written out sample by sample in plain Python.

The references are slow and obviously right: one sample a forward pass, the loss by its definition.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qanneal_opt.losses import hinge

N = 11
DOUBLE = torch.float64


@dataclass(frozen=True)
class Case:
    """A model, its loss over data, and what the loss of one sample is."""

    name: str
    make: Callable[[], nn.Module]  # the same weights at each call
    loss: Callable[[Any, Any], Tensor]
    data: tuple[Any, Any]
    sample: Callable[[list[float], Any], float]  # outputs and target of one sample -> its loss

    def reference(self, model: nn.Module, weights: Sequence[float] | None = None) -> float:
        """sum_s c_s l_s / sum_s c_s, in eval mode, one sample after the other."""
        model = copy.deepcopy(model).eval()
        inputs, targets = self.data
        shares = [1.0] * N if weights is None else [float(c) for c in weights]
        total = 0.0
        for s, share in enumerate(shares):
            outputs = call(model, pick(inputs, s)).detach().flatten().tolist()
            total += share * self.sample(outputs, targets[s].tolist())
        return total / sum(shares)

    def __str__(self) -> str:
        return self.name


def pick(inputs: Any, s: int) -> Any:
    """Sample ``s`` as a batch of one."""
    if isinstance(inputs, dict):
        return {name: part[s : s + 1] for name, part in inputs.items()}
    return tuple(part[s : s + 1] for part in inputs) if isinstance(inputs, tuple) else inputs[s : s + 1]


def call(model: nn.Module, inputs: Any) -> Tensor:
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


class Product(nn.Module):
    """Two inputs, given by position or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Bilinear(3, 2, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.tanh(self.mix(left, right))


def seeded(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return build().double()

    return make


def mlp(outputs: int, activation: type[nn.Module] = nn.Tanh) -> Callable[[], nn.Module]:
    return seeded(lambda: nn.Sequential(nn.Linear(4, 6), activation(), nn.Linear(6, outputs)))


def normalised() -> nn.Module:
    """BatchNorm with statistics of its own, and dropout: what differs between train and eval mode."""
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    model(torch.randn(32, 4) * 3 + 1)  # running statistics away from 0 and 1
    return model


def own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss that no library knows."""
    return (outputs.sin().sum(1) - targets).abs().pow(1.5).mean()


def branching_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Control flow that reads values, which vmap cannot take."""
    parts = []
    for output, target in zip(outputs, targets):
        gap = output.sum() - target
        parts.append(gap.square() if gap.item() > 0 else 2 * gap.abs())
    return torch.stack(parts).mean()


def cross_entropy_of(outputs: list[float], label: int) -> float:
    return math.log(sum(math.exp(o) for o in outputs)) - outputs[label]


def squared(outputs: list[float], target: list[float]) -> float:
    return sum((o - t) ** 2 for o, t in zip(outputs, target)) / len(outputs)


def hinge_of(outputs: list[float], label: float) -> float:
    return max(0.0, 0.5 - label * outputs[0] / 2.0) ** 2


def own(outputs: list[float], target: float) -> float:
    return abs(sum(math.sin(o) for o in outputs) - target) ** 1.5


def branching(outputs: list[float], target: float) -> float:
    gap = sum(outputs) - target
    return gap**2 if gap > 0 else -2 * gap


def _cases() -> list[Case]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, 4, generator=g, dtype=DOUBLE)
    left, right = torch.randn(N, 3, generator=g, dtype=DOUBLE), torch.randn(N, 2, generator=g, dtype=DOUBLE)
    labels = torch.randint(3, (N,), generator=g)
    values, pairs = torch.randn(N, generator=g, dtype=DOUBLE), torch.randn(N, 2, generator=g, dtype=DOUBLE)
    signs = values.sign()
    entropy, mse = functional.cross_entropy, functional.mse_loss
    return [
        Case("cross_entropy", mlp(3, nn.ReLU), entropy, (x, labels), cross_entropy_of),
        Case("mse", mlp(2), mse, (x, pairs), squared),
        Case("hinge", mlp(1), hinge(0.5, scale=2.0), (x, signs), hinge_of),
        Case("own", mlp(2), own_loss, (x, values), own),
        Case("branching", mlp(2), branching_loss, (x, values), branching),
        Case("positional", seeded(Product), mse, ((left, right), pairs), squared),
        Case("named", seeded(Product), mse, ({"right": right, "left": left}, pairs), squared),
        Case("normalised", seeded(normalised), entropy, (x, labels), cross_entropy_of),
    ]


CASES = {case.name: case for case in _cases()}
