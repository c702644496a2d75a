"""The binary perceptron by annealing alone: there is no continuous weight that a gradient could train."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import qanneal_opt as qa

MARGIN = 0.5


def perceptron(
    patterns: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    seed: int,
    budget: float,
    temperature: tuple[float, float] = (0.1, 0.02),
    rounds: int = 40,
    sweeps: int = 60,
) -> dict[str, Any]:
    """Look for weights +-1 that put every pattern on its label's side, for ``budget`` CPU seconds.

    The judged loss is the squared hinge with a margin, summed over patterns. One span of ``rounds`` calls of
    ``sweeps`` uniform sweeps falls from the first to the last temperature; spans are repeated from new random
    weights until the budget is used up. A temperature of ``(0, 0)`` is the control without one.

    Args:
        patterns: ``(M, N)`` of -1 and 1.
        labels: ``(M,)`` of -1 and 1.
        seed: of the start and of the moves.
        budget: CPU seconds, as a process counts them.
        temperature: first and last, for the sum over patterns.
        rounds: annealing steps of a span.
        sweeps: uniform sweeps of an annealing step.
    """
    start = time.process_time()
    count, size = patterns.shape
    inputs, targets = torch.from_numpy(patterns), torch.from_numpy(labels)[:, None]
    model = nn.Linear(size, 1, bias=False)
    generator = torch.Generator().manual_seed(seed)
    objective = qa.Objective(model, qa.losses.hinge(MARGIN, math.sqrt(size)), (inputs, targets))
    heat = (temperature[0] / count, temperature[1] / count)  # the judged loss is a mean
    step = qa.DirectStep(proposals=0, sweeps=sweeps, temperature=heat, temperature_unit="absolute", refit=0)
    least, done, span = count, 0, 0
    while least and time.process_time() - start < budget:
        with torch.no_grad():
            model.weight.copy_(torch.randn(1, size, generator=generator))
        optimizer = qa.AnnealingOptimizer(
            [{"params": [model.weight], "encoding": qa.Levels.binary(scale=torch.ones(()))}],
            objective=objective,
            annealing=step,
            schedule=qa.Every(1, stop=rounds),
            seed=seed + 1_000_003 * span,
        )
        for _ in range(rounds):
            optimizer.step()
            done += sweeps
            with torch.no_grad():
                least = min(least, int((model(inputs) * targets <= 0).sum()))
            if least == 0 or time.process_time() - start >= budget:
                break
        span += 1
    return {
        "solved": least == 0,
        "loss": float(objective()) * count,
        "metric": 1.0 - least / count,
        # a sweep evaluates each weight once at one multiply-add a pattern: as many as a forward pass
        "ge": done / 3,
        "sweeps": done,
    }
