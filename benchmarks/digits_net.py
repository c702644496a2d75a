"""Digits 64-6-10, weights binary with one scale a row, batches of 128: what measurements beside the tasks train."""

from typing import Any

import torch
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.demo.alternation import network
from qanneal_opt.demo.data import digits

BATCH, RATE = 128, 5e-3


class Training:
    """The network of a seed and its optimizer; each :meth:`step` is a gradient step, and annealing where it is due."""

    def __init__(self, seed: int, annealing: Any, schedule: qa.Every) -> None:
        split = digits(seed)
        self.inputs, self.targets = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = network([self.inputs.shape[1], 6, split.classes])
        self.objective = qa.Objective(self.model, functional.cross_entropy, (self.inputs, self.targets))
        self.optimizer = qa.AnnealingOptimizer(
            [
                {"params": [p for p in self.model.parameters() if p.ndim > 1], "encoding": qa.Levels.binary()},
                {"params": [p for p in self.model.parameters() if p.ndim == 1]},
            ],
            lr=RATE,
            weight_decay=0.0,
            objective=self.objective,
            annealing=annealing,
            schedule=schedule,
            seed=seed,
        )
        self.generator = torch.Generator().manual_seed(seed)

    def step(self) -> None:
        """One step of the optimizer, on a random batch."""
        batch = torch.randint(len(self.inputs), (BATCH,), generator=self.generator)
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(self.inputs[batch]), self.targets[batch]).backward()
        self.optimizer.step()
