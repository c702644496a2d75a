"""The binary perceptron by annealing alone: there is no continuous weight that a gradient could train.

Annealing with a wide margin stays where solutions are dense (Baldassi, Lauditi, Malatesta, Perugini and Zecchina,
"Unveiling the structure of wide flat minima in neural networks", 2021), but at its temperature a few patterns are
wrong at any moment. A descent with a narrow margin, on a copy of the weights, reaches a solution nearby.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import qanneal_opt as qa

WIDE, NARROW = 0.5, 0.1  # margins, in units of sqrt(N)
DESCENT = 3  # sweeps


def measured(
    patterns: NDArray[np.float32], labels: NDArray[np.float32], weights: NDArray[np.float32], passes: float
) -> dict[str, Any]:
    """What a contender returns, from the weights +-1 ``(N,)`` that it found after some passes over all patterns."""
    wrong = int((patterns @ weights * labels <= 0).sum())
    share = wrong / len(labels)
    return {"solved": wrong == 0, "loss": share, "metric": 1.0 - share, "ge": passes}


def optimizer_of(
    model: nn.Linear, margin: float, data: tuple[Tensor, Tensor], step: qa.DirectStep, schedule: qa.Every, seed: int
) -> qa.AnnealingOptimizer:
    """Give what anneals the model's weights, +-1, on the squared hinge with a margin."""
    loss = qa.losses.hinge(margin, math.sqrt(model.in_features))
    return qa.AnnealingOptimizer(
        [{"params": [model.weight], "encoding": qa.Levels.binary(scale=torch.ones(()))}],
        objective=qa.Objective(model, loss, data),
        annealing=step,
        schedule=schedule,
        seed=seed,
    )


def anneal(
    patterns: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    seed: int,
    budget: float,
    temperature: tuple[float, float] = (0.08, 0.06),
    rounds: int = 50,
    sweeps: int = 50,
) -> tuple[NDArray[np.float32], float]:
    """Look for weights +-1 that put every pattern on its label's side, for ``budget`` CPU seconds.

    The judged loss is the squared hinge with a margin, summed over patterns. One span of ``rounds`` calls of
    ``sweeps`` uniform sweeps falls from the first to the last temperature, and a descent follows each call;
    spans are repeated from new random weights until the budget is used up. A temperature of ``(0, 0)`` is the
    control without one.

    Args:
        patterns: ``(M, N)`` of -1 and 1.
        labels: ``(M,)`` of -1 and 1.
        seed: of the start and of the moves.
        budget: CPU seconds, as a process counts them.
        temperature: first and last, for the sum over patterns.
        rounds: annealing steps of a span.
        sweeps: uniform sweeps of an annealing step.

    Returns:
        The weights ``(N,)`` with the fewest errors seen, and the passes over all patterns (a sweep evaluates
        each weight once at one multiply-add a pattern: as much as a forward pass, a third of one and back).
    """
    start = time.process_time()
    count, size = patterns.shape
    data = inputs, targets = torch.from_numpy(patterns), torch.from_numpy(labels)[:, None]
    model, near = nn.Linear(size, 1, bias=False), nn.Linear(size, 1, bias=False)
    heat = (temperature[0] / count, temperature[1] / count)  # the judged loss is a mean
    hot = qa.DirectStep(proposals=0, sweeps=sweeps, temperature=heat, temperature_unit="absolute", refit=0)
    cold = qa.DirectStep(proposals=0, sweeps=DESCENT, temperature=0.0, refit=0)
    descent = optimizer_of(near, NARROW, data, cold, qa.Every(1), seed)
    generator = torch.Generator().manual_seed(seed)
    least, done, span = count + 1, 0, 0
    best = near.weight.detach().clone()
    while least and time.process_time() - start < budget:
        with torch.no_grad():
            model.weight.copy_(torch.randn(1, size, generator=generator))
        optimizer = optimizer_of(model, WIDE, data, hot, qa.Every(1, stop=rounds), seed + 1_000_003 * span)
        for _ in range(rounds):
            optimizer.step()
            with torch.no_grad():
                near.weight.copy_(model.weight)
            descent.anneal()
            done += sweeps + DESCENT
            with torch.no_grad():
                errors = int((near(inputs) * targets <= 0).sum())
            if errors < least:
                least, best = errors, near.weight.detach().clone()
            if least == 0 or time.process_time() - start >= budget:
                break
        span += 1
    return best[0].numpy(), done / 3
