"""Gradient and annealing steps in turn, as a user would write it, on the demo's tasks.

The start is what straight-through training reached, by the same compiled code as the baseline: what annealing
adds is then not a matter of how fast a training loop in Python is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.demo.baselines import straight_through as straight
from qanneal_opt.demo.baselines.binary_net import REFIT_STEPS
from qanneal_opt.demo.data import Split


@dataclass(frozen=True)
class Plan:
    """How long to train and how hot to anneal.

    Attributes:
        setting: of the straight-through training at the start, its restarts among them.
        warmup: CPU seconds of it.
        calls: annealing steps; the gradient steps on scales and biases between them are their refits.
        polish: full-batch gradient steps on scales and biases at the end, with falling learning rate.
        rate: learning rate of the gradient steps on scales and biases.
        smoothing: label smoothing, in training and in what annealing judges by.
    """

    setting: straight.Setting
    warmup: float = 1.2
    calls: int = 40
    polish: int = 150
    rate: float = 5e-3
    smoothing: float = 0.0


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run reached and cost.

    Attributes:
        loss: mean cross-entropy over the training data, with the plan's smoothing.
        accuracy: on the test data.
        gradients: full-batch forward and backward passes, annealing's own among them.
        summary: the optimizer's own.
    """

    loss: float
    accuracy: float
    gradients: float
    summary: str


def network(sizes: Sequence[int]) -> nn.Sequential:
    """A stack of Linear layers with ReLU in between."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train(split: Split, hidden: Sequence[int], step: Any, plan: Plan, seed: int) -> Trained:
    """Train a network with binary weights, one scale a row, straight-through and then by the alternation.

    ``step`` is the annealing step, such as ``qa.DirectStep()``.
    """
    inputs, targets = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_targets)
    test_inputs, test_targets = torch.from_numpy(split.test_inputs), torch.from_numpy(split.test_targets)
    start = straight.train(split, hidden, plan.setting, budget=plan.warmup, seed=seed, smoothing=plan.smoothing)
    model = network([inputs.shape[1], *hidden, split.classes])
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    with torch.no_grad():
        for p, codes, scale in zip(weights, start.codes, start.scales):
            p.copy_(torch.from_numpy(codes * scale[:, None]))
        for p, bias in zip(biases, start.biases):
            p.copy_(torch.from_numpy(bias))

    def loss(outputs: Tensor, answers: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, answers, label_smoothing=plan.smoothing)

    objective = qa.Objective(model, functional.cross_entropy, (inputs, targets)).smoothed(plan.smoothing)
    optimizer = qa.AnnealingOptimizer(
        [{"params": weights, "encoding": qa.Levels.binary()}, {"params": biases}],
        lr=plan.rate,
        weight_decay=0.0,
        objective=objective,
        annealing=step,
        schedule=qa.Every(1, stop=plan.calls),
        seed=seed,
    )
    for k in range(plan.calls + plan.polish):
        optimizer.zero_grad()
        if k >= plan.calls:
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * (plan.calls + plan.polish - k) / plan.polish
            loss(model(inputs), targets).backward()
        optimizer.step()  # without gradients the base rests, and the annealing step brings its own refit
    with torch.no_grad():
        accuracy = float((model(test_inputs).argmax(1) == test_targets).float().mean())
    sizes = sum(p.numel() for p in weights)
    spent = sum(passes(record, step, sizes, split.classes) for record in optimizer.records)
    begun = start.steps * plan.setting.batch / len(inputs) + plan.setting.restarts * REFIT_STEPS
    return Trained(float(objective()), accuracy, begun + plan.polish + spent, optimizer.summary())


def passes(record: qa.AnnealRecord, step: Any, weights: int, outputs: int) -> float:
    """Count an annealing step's work in forward and backward passes over the training data (``ge``).

    In multiply-adds a sample: such a pass costs three times the network's weights; the exact change under a
    move, and a move's row of the Jacobian, the outputs and one; the couplings of a QUBO of n moves n^2 times
    the outputs.
    """
    moves = record.candidates * (1 + outputs)
    if isinstance(step, qa.QuboStep):
        blocks = -(-record.variables // step.variables)
        moves = 2 * record.variables * (1 + outputs) + record.variables**2 // max(blocks, 1) * outputs
    return int(getattr(step, "rounds", 1)) * (1 + int(step.refit)) + moves / (3 * weights)
