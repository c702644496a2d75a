"""The network that is pruned: 64-16-16-10 on digits, trained and finetuned by AdamW."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.demo.data import digits

SIZES = (64, 16, 16, 10)  # 1440 weights
STEPS, BATCH, LR = 1000, 128, 3e-3
FINETUNE = 200


class Trained:
    """A trained network of a seed, and its data."""

    def __init__(self, seed: int) -> None:
        split = digits(seed)
        self.seed = seed
        self.train = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_targets)
        self.test = torch.from_numpy(split.test_inputs), torch.from_numpy(split.test_targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [part for a, b in zip(SIZES, SIZES[1:]) for part in (nn.Linear(a, b), nn.ReLU())]
        self.model = nn.Sequential(*layers[:-1])
        fit(self.model, self.train, STEPS, LR, batch=BATCH, seed=seed)

    def copy(self) -> tuple[nn.Sequential, qa.Objective]:
        """A network of its own, and the objective that it is pruned by."""
        model = copy.deepcopy(self.model)
        return model, qa.Objective(model, functional.cross_entropy, self.train)

    def scores(self, model: nn.Module) -> tuple[float, float]:
        """Training loss and test accuracy."""
        with torch.no_grad():
            loss = functional.cross_entropy(model(self.train[0]), self.train[1])
            right = (model(self.test[0]).argmax(1) == self.test[1]).float().mean()
        return float(loss), float(right)

    def finetuned(self, pruned: nn.Module, lr: float) -> nn.Module:
        """A copy after 200 full-batch steps with falling learning rate; what is zero stays zero."""
        model = copy.deepcopy(pruned)
        masks = [(weight, weight.detach() != 0) for weight in weights(model)]
        fit(model, self.train, FINETUNE, lr, after=lambda _: apply(masks))
        return model


def weights(model: nn.Module) -> list[nn.Parameter]:
    """The matrices."""
    return [p for p in model.parameters() if p.ndim > 1]


def apply(masks: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Drop what is masked."""
    with torch.no_grad():
        for weight, mask in masks:
            weight.mul_(mask)


def fit(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    steps: int,
    lr: float,
    *,
    batch: int | None = None,
    seed: int = 0,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """AdamW without weight decay, its learning rate falling linearly to zero; `after` is called after each step."""
    inputs, targets = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        part = slice(None) if batch is None else torch.randint(len(inputs), (batch,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs[part]), targets[part]).backward()
        optimizer.step()
        after(step)
