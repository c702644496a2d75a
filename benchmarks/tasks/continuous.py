"""Digits 64-16-10 ReLU with continuous weights: the cost of a training loss of 0.05; no gain by annealing.

loss: mean cross-entropy over all training data at the end; metric: test accuracy; solved: loss reached
within the cap; ge: gradients of the whole training set until then (else the cap). The check of the
loss, four times a pass, is not in ge; it is in the CPU seconds, and the same for all contenders.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import qanneal_opt as qa
from benchmarks.tuning import Round, search
from qanneal_opt.demo.data import digits

NAME = "continuous"
BASELINE = "adamw"
METRIC = "test accuracy"
TUNING_SEEDS = range(1000, 1010)
HIDDEN = 16
TARGET = 0.05
CAP = 100.0  # ge


@dataclass(frozen=True)
class Setting:
    """What tuning chooses for AdamW."""

    lr: float
    batch: int
    beta2: float = 0.999
    decay: float = 0.0


SETTING = Setting(lr=0.03, batch=32, beta2=0.99)

MakeOptimizer = Callable[[nn.Sequential, tuple[Tensor, Tensor]], torch.optim.Optimizer]


def network(seed: int) -> nn.Sequential:
    """The net at its seeded start; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))


def train(seed: int, batch: int, make_optimizer: MakeOptimizer) -> dict[str, Any]:
    """Mini-batch steps until the training loss is at most `TARGET`, or `CAP` passes are spent."""
    split = digits(seed)
    inputs, targets = (
        torch.from_numpy(split.train_inputs),
        torch.from_numpy(split.train_targets),
    )  # (n, 64), (n,)
    model = network(seed)
    optimizer = make_optimizer(model, (inputs, targets))
    generator = torch.Generator().manual_seed(seed)
    steps, an_epoch = 0, len(inputs) // batch
    check = max(1, an_epoch // 4)
    loss = float("inf")
    while loss > TARGET and steps * batch < CAP * len(inputs):
        order = torch.randperm(len(inputs), generator=generator)
        for start in range(0, an_epoch * batch, batch):
            rows = order[start : start + batch]
            optimizer.zero_grad()
            cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
            steps += 1
            if steps % check == 0:
                with torch.no_grad():
                    loss = float(cross_entropy(model(inputs), targets))
                if loss <= TARGET:
                    break
    with torch.no_grad():
        right = model(torch.from_numpy(split.test_inputs)).argmax(1) == torch.from_numpy(split.test_targets)
    passes = steps * batch / len(inputs)
    return {"solved": loss <= TARGET, "loss": loss, "metric": float(right.float().mean()), "ge": passes}


def adamw(seed: int, setting: Setting) -> dict[str, Any]:
    """The tuned baseline."""

    def make(model: nn.Sequential, _: tuple[Tensor, Tensor]) -> torch.optim.Optimizer:
        betas = (0.9, setting.beta2)
        return torch.optim.AdamW(model.parameters(), lr=setting.lr, betas=betas, weight_decay=setting.decay)

    return train(seed, setting.batch, make)


def tune() -> Iterator[dict[str, Any]]:
    """Fewest gradients to the target on the tuning seeds."""

    def grid(_: Sequence[Setting]) -> list[Setting]:
        axes = product((3e-3, 1e-2, 3e-2), (32, 64, 128), (0.99, 0.999))
        return [Setting(lr, batch, beta2) for lr, batch, beta2 in axes]

    def neighbours(best: Sequence[Setting]) -> list[Setting]:
        rates = [replace(one, lr=round(one.lr * factor, 6)) for one in best for factor in (0.6, 1.6)]
        return [*best, *rates, *(replace(one, decay=0.1) for one in best)]

    rounds = [
        Round(grid, _evaluate, TUNING_SEEDS[:3], keep=3),
        Round(neighbours, _evaluate, TUNING_SEEDS, keep=1),
    ]
    return search(rounds, lambda row: row["ge"])


def _evaluate(setting: Setting, seed: int) -> dict[str, Any]:
    return adamw(seed, setting)


def window(seed: int, setting: Setting) -> dict[str, Any]:
    """The same AdamW, with a QUBO over 16 continuous weights at T = 0 after every 20th step.

    In ge an annealing step costs a gradient, a Gauss-Newton product (2) for each weight, and a third for each trial.
    """
    made: list[qa.AnnealingOptimizer] = []
    step = qa.QuboStep(proposals=16, variables=32, temperature=0.0, num_reads=4, refit=0)

    def make(model: nn.Sequential, data: tuple[Tensor, Tensor]) -> torch.optim.Optimizer:
        weights = [p for p in model.parameters() if p.ndim > 1]
        biases = [p for p in model.parameters() if p.ndim == 1]
        optimizer = qa.AnnealingOptimizer(
            [{"params": weights, "encoding": qa.Window(bits=2, radius=0.02)}, {"params": biases}],
            objective=qa.Objective(model, cross_entropy, data),
            annealing=step,
            schedule=qa.Every(20),
            seed=seed,
            lr=setting.lr,
            betas=(0.9, setting.beta2),
            weight_decay=setting.decay,
        )
        made.append(optimizer)
        return optimizer

    result = train(seed, setting.batch, make)
    spent = sum(1 + 2 * record.variables / 2 + record.candidates / 3 for record in made[0].records)
    return {**result, "ge": result["ge"] + spent}


CONTENDERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "adamw": lambda seed: adamw(seed, SETTING),
    "window": lambda seed: window(seed, SETTING),
}
