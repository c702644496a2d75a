"""Gradient and annealing steps in turn, as a user would write it, on the demo's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.demo.data import Split


@dataclass(frozen=True)
class Plan:
    """How long to train and how hot to anneal.

    Attributes:
        warmup: straight-through steps on mini-batches, with falling learning rate.
        rounds: annealing steps; the gradient steps on scales and biases between them are their refits.
        polish: full-batch gradient steps on scales and biases at the end, with falling learning rate.
        batch: samples of a warm-up step.
        lr: learning rate of the warm-up.
        rate: learning rate of the gradient steps on scales and biases.
        smoothing: label smoothing, in training and in what annealing judges by.
    """

    warmup: int = 1000
    rounds: int = 400
    polish: int = 150
    batch: int = 128
    lr: float = 3e-3
    rate: float = 5e-3
    smoothing: float = 0.0


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run reached and cost.

    Attributes:
        loss: mean cross-entropy over the training data, with the plan's smoothing.
        accuracy: on the test data.
        gradients: full-batch forward and backward passes, annealing's own among them.
    """

    loss: float
    accuracy: float
    gradients: float


def network(sizes: Sequence[int]) -> nn.Sequential:
    """A stack of Linear layers with ReLU in between."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train(split: Split, hidden: Sequence[int], step: Any, plan: Plan, seed: int) -> Trained:
    """Train a network with binary weights, one scale a row, by straight-through steps and then by the alternation.

    ``step`` is the annealing step, such as ``qa.DirectStep()``.
    """
    inputs, targets = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_targets)
    test_inputs, test_targets = torch.from_numpy(split.test_inputs), torch.from_numpy(split.test_targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network([inputs.shape[1], *hidden, split.classes])
        order = torch.randint(len(inputs), (plan.warmup, plan.batch))

    def loss(outputs: Tensor, answers: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, answers, label_smoothing=plan.smoothing)

    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    objective = qa.Objective(model, functional.cross_entropy, (inputs, targets))
    optimizer = qa.AnnealingOptimizer(
        [{"params": weights, "encoding": qa.Levels.binary()}, {"params": biases}],
        lr=plan.lr,
        weight_decay=0.0,
        objective=objective,
        annealing=step,
        schedule=qa.Every(1, start=plan.warmup - 1, stop=plan.warmup + plan.rounds - 1),
        seed=seed,
    )
    total = plan.warmup + plan.rounds + plan.polish
    for k in range(total):
        warm = k < plan.warmup
        lr = plan.lr * (1 - k / plan.warmup) if warm else plan.rate * min(1.0, (total - k) / plan.polish)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        if warm or k >= plan.warmup + plan.rounds:
            rows = order[k] if warm else slice(None)
            loss(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()  # without gradients the base rests, and the annealing step brings its own refit
    with torch.no_grad():
        accuracy = float((model(test_inputs).argmax(1) == test_targets).float().mean())
    sizes = [p.numel() for p in weights]
    spent = sum(passes(record, step, sum(sizes), split.classes) for record in optimizer.records)
    gradients = len(order) * plan.batch / len(inputs) + plan.polish + spent
    return Trained(float(objective.smoothed(plan.smoothing)()), accuracy, gradients)


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
    return 1 + int(step.refit) + moves / (3 * weights)
