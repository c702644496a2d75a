"""The network of the figures: real digits, 64-6-10, binary weights, trained straight-through."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import qanneal_opt as qa
from qanneal_opt.demo import data

STEPS, BATCH, LR = 1000, 128, 3e-3


@cache
def digits() -> tuple[Tensor, Tensor]:
    """The demo's training rows: standardised pixels, `(1437, 64)`, and classes."""
    split = data.digits(0)
    return torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_targets)


def weights(net: nn.Sequential) -> list[Tensor]:
    """The binary parameters."""
    return [p for p in net.parameters() if p.ndim > 1]


def groups(net: nn.Sequential) -> list[dict[str, Any]]:
    """Parameter groups: binary weights with one scale a row, and continuous biases."""
    biases = [p for p in net.parameters() if p.ndim == 1]
    return [{"params": weights(net), "encoding": qa.Levels.binary()}, {"params": biases}]


def objective(net: nn.Sequential) -> qa.Objective:
    """Mean cross-entropy over all training rows."""
    return qa.Objective(net, cross_entropy, digits())


def trained() -> nn.Sequential:
    """The network after straight-through steps on mini-batches with a falling learning rate."""
    inputs, targets = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
        batches = torch.randint(len(inputs), (STEPS, BATCH))
    optimizer = qa.AnnealingOptimizer(groups(net), lr=LR, weight_decay=0.0)
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / STEPS)
        optimizer.zero_grad()
        cross_entropy(net(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return net
