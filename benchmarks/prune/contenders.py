"""Ways to prune a trained network: ours, its parts, its controls, and what others do."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import qanneal_opt as qa
from benchmarks.prune.network import BATCH, Trained, apply, fit, weights

Contender = Callable[[Trained, float, float, float], nn.Module]
"""Trained network, density, learning rate, CPU seconds that it may take (those of ours): a pruned network."""


def by(**options: Any) -> Contender:
    """`qa.prune` with these options; of the learning rate and the time it takes no notice."""

    def contender(trained: Trained, density: float, lr: float, budget: float) -> nn.Module:
        model, objective = trained.copy()
        qa.prune(model, objective, density, seed=trained.seed, **options)
        return model

    return contender


def gradual(trained: Trained, density: float, lr: float, budget: float) -> nn.Module:
    """Magnitude pruning while training: the density falls as in Zhu and Gupta (2017), 1 - (1 - d)(1 - (1 - t)^3).

    Training steps as many as take `budget` CPU seconds; t runs from 0 to 1 over the first three quarters.
    """
    model, _ = trained.copy()
    masks = [(weight, torch.ones_like(weight, dtype=torch.bool)) for weight in weights(model)]
    total = sum(mask.numel() for _, mask in masks)
    steps = max(1, int(budget / _step_seconds(trained)))

    def after(step: int) -> None:
        if step % 10 == 0:
            t = min(1.0, step / (0.75 * steps))
            kept = round(total * (1 - (1 - density) * (1 - (1 - t) ** 3)))
            sizes = torch.cat([weight.detach().abs().flatten() for weight, _ in masks])
            least = sizes.kthvalue(total - kept).values if kept < total else -math.inf
            for weight, mask in masks:
                torch.gt(weight.detach().abs(), least, out=mask)
        apply(masks)

    fit(model, trained.train, steps, lr, batch=BATCH, seed=trained.seed, after=after)
    return model


def _step_seconds(trained: Trained) -> float:
    """CPU seconds of one training step with masks."""
    model, _ = trained.copy()
    masks = [(weight, torch.ones_like(weight, dtype=torch.bool)) for weight in weights(model)]
    begun = time.process_time()
    fit(model, trained.train, 200, 1e-3, batch=BATCH, after=lambda _: apply(masks))
    return (time.process_time() - begun) / 200


ONE = {"stages": 1, "refits": 0}
SAME = {"stages": 12, "refits": 5}  # as ours has

CONTENDERS: dict[str, Contender] = {
    "ours": by(),
    "ours, greedy (T = 0)": by(sampler="greedy"),
    "OBS, same stages and refits": by(method="obs", **SAME),
    "magnitude, same stages and refits": by(method="magnitude", compensate=True, **SAME),
    "QUBO, one shot, compensated": by(**ONE),
    "QUBO, one shot, compensated, greedy (T = 0)": by(sampler="greedy", **ONE),
    "QUBO, one shot, as they are": by(compensate=False, **ONE),
    "OBS with update": by(method="obs"),
    "magnitude": by(method="magnitude"),
    "gradual magnitude, equal CPU": gradual,
}
TUNED = ("gradual magnitude, equal CPU",)  # those to which the learning rate matters while they prune
