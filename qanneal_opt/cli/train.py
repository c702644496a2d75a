"""Train a network with discrete weights on a table: gradient and annealing steps in turn.

The network is a stack of Linear layers; its weights take the levels asked for, its biases stay continuous.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.cli.console import UsageError, need_folder
from qanneal_opt.cli.data import BUNDLED, Split, load
from qanneal_opt.terminal import progress

ENCODINGS: dict[str, Callable[[], qa.Levels]] = {
    "binary": qa.Levels.binary,
    "ternary": qa.Levels.ternary,
    "2bit": lambda: qa.Levels.uniform(2),
    "3bit": lambda: qa.Levels.uniform(3),
    "4bit": lambda: qa.Levels.uniform(4),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--data", required=True, help=f"{', '.join(BUNDLED)}, or a CSV file with a header")
    parser.add_argument("--target", help="the CSV file's target column (the last one by default)")
    parser.add_argument("--test-size", type=float, default=0.2, help="share of the rows to test on (0.2)")
    parser.add_argument("--hidden", default="16", help="units of the hidden layers, such as 32,16 (16)")
    parser.add_argument("--levels", choices=[*ENCODINGS, "none"], default="binary", help="values of a weight (binary)")
    parser.add_argument("--annealing", choices=["direct", "qubo", "none"], default="direct", help="the step (direct)")
    parser.add_argument("--sampler", default="annealer", help="sampler of the qubo step (annealer)")
    parser.add_argument("--steps", type=int, default=1000, help="gradient steps before annealing (1000)")
    parser.add_argument("--rounds", type=int, default=300, help="annealing steps, a gradient step before each (300)")
    parser.add_argument("--polish", type=int, default=150, help="gradient steps on scales and biases at the end (150)")
    parser.add_argument("--lr", type=float, default=3e-3, help="learning rate (3e-3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, weights and annealing (0)")
    parser.add_argument("--save", type=Path, help="write the model's state dict to this file")


def run(options: argparse.Namespace) -> None:
    """Train, and print what came out."""
    for name in ("steps", "rounds", "polish"):
        if getattr(options, name) < (1 if name == "steps" else 0):
            raise UsageError(f"Invalid --{name}: {getattr(options, name)}; a larger count is needed")
    need_folder(options.save)
    split = load(options.data, target=options.target, test_size=options.test_size, seed=options.seed)
    torch.manual_seed(options.seed)
    model = network(split, options.hidden)
    optimizer, objective = build(model, split, options)
    start = time.process_time()
    fit(optimizer, model, split, objective, options)
    report = evaluate(model, split, objective)
    report |= {"data": options.data, "seed": options.seed, "cpu_s": time.process_time() - start}
    if options.save is not None:
        torch.save(model.state_dict(), options.save)
    if options.json:
        records = [dataclasses.asdict(record) for record in optimizer.records]
        print(json.dumps({**report, "records": records}))
        return
    print(
        "\n".join(
            f"{key:<14}{value:.4f}" if isinstance(value, float) else f"{key:<14}{value}"
            for key, value in report.items()
        )
    )
    if optimizer.records:
        print("\n" + optimizer.summary())


def network(split: Split, hidden: str) -> nn.Sequential:
    """Give a stack of Linear layers with ReLU in between."""
    try:
        sizes = [int(part) for part in hidden.split(",") if part]
    except ValueError as error:
        raise UsageError(f"Invalid --hidden: {hidden}; numbers such as 32,16 are needed") from error
    if any(size < 1 for size in sizes):
        raise UsageError(f"Invalid --hidden: {hidden}; positive numbers are needed")
    widths = [split.inputs.shape[1], *sizes, split.outputs]
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def build(
    model: nn.Sequential, split: Split, options: argparse.Namespace
) -> tuple[qa.AnnealingOptimizer, qa.Objective]:
    """Give the optimizer of the command's options, and the objective that it judges moves by."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    objective = qa.Objective(model, _loss(split), (split.inputs, split.targets))
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases}]
    if options.levels != "none":
        groups[0]["encoding"] = ENCODINGS[options.levels]()
    annealed = options.levels != "none" and options.annealing != "none" and options.rounds > 0
    step: Any = None
    if annealed:
        step = qa.DirectStep() if options.annealing == "direct" else qa.QuboStep(options.sampler)
    optimizer = qa.AnnealingOptimizer(
        groups,
        lr=options.lr,
        weight_decay=0.0,
        objective=objective,
        annealing=step,
        schedule=qa.Every(1, start=options.steps - 1, stop=options.steps - 1 + max(options.rounds, 1)),
        seed=options.seed,
    )
    return optimizer, objective


def fit(
    optimizer: qa.AnnealingOptimizer,
    model: nn.Sequential,
    split: Split,
    objective: qa.Objective,
    options: argparse.Namespace,
) -> None:
    """Train with falling learning rate; then the annealing steps; then scales and biases alone."""
    total = options.steps + options.rounds + options.polish
    for step in progress(range(total), "train", quiet=options.json):
        lr = options.lr * (1 - step / options.steps) if step < options.steps else 5e-3
        if step >= options.steps + options.rounds:
            lr *= (total - step) / max(options.polish, 1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        objective.loss(model(split.inputs), split.targets).backward()
        optimizer.step()


def evaluate(model: nn.Sequential, split: Split, objective: qa.Objective) -> dict[str, float]:
    """Give training loss and, on the test rows, accuracy or root mean squared error."""
    with torch.no_grad():
        outputs: Tensor = model(split.test_inputs)
    if split.classes:
        metric = {"test_accuracy": float((outputs.argmax(1) == split.test_targets).float().mean())}
    else:
        metric = {"test_rmse": float((outputs - split.test_targets).square().mean().sqrt())}
    return {"loss": float(objective()), **metric}


def _loss(split: Split) -> Any:
    return functional.cross_entropy if split.classes else functional.mse_loss
