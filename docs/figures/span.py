"""One span of a real run: temperature, accepted moves, and the objective, with the control at T = 0."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn.functional import cross_entropy

import qanneal_opt as qa
from figures import in_every_theme
from figures.net import digits, groups, objective, trained

ROUNDS = 60


def run(temperature: float | tuple[float, float]) -> Sequence[qa.AnnealRecord]:
    """Anneal the same straight-through start for one span, a gradient step before each round."""
    net = trained()
    optimizer = qa.AnnealingOptimizer(
        groups(net),
        lr=1e-3,
        weight_decay=0.0,
        objective=objective(net),
        annealing=qa.DirectStep(temperature=temperature),
        schedule=qa.Every(1, stop=ROUNDS),
    )
    inputs, targets = digits()
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        cross_entropy(net(inputs), targets).backward()
        optimizer.step()
    return list(optimizer.records)


def draw(folder: Path) -> None:
    """Three panels over the rounds of the span."""
    annealed, control = run((0.1, 0.005)), run(0.0)
    rounds = np.arange(1, ROUNDS + 1)

    def paint(figure: Any, colours: dict[str, str]) -> None:
        heat, share, loss = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 1.6))
        heat.semilogy(rounds, [record.temperature for record in annealed], color=colours["b"])
        heat.set(title="temperature, in units of the objective", ylabel="T")

        for records, colour in ((annealed, "b"), (control, "a")):
            accepted = [record.accepted / record.candidates for record in records]
            share.plot(rounds, accepted, color=colours[colour])
        share.set(title="share of the judged moves that was accepted", ylim=(0, 1))

        after = np.array([record.loss_after for record in annealed])
        uphill = np.array([record.actual > 0 for record in annealed])
        loss.plot(rounds, [record.loss_after for record in control], color=colours["a"], label="T = 0")
        loss.plot(rounds, after, color=colours["b"], label="T falling")
        loss.plot(rounds[uphill], after[uphill], "^", ms=5, color=colours["b"], label="moves uphill on balance")
        loss.plot(rounds, np.minimum.accumulate(after), ":", color=colours["ink"], lw=1.2, label="best so far")
        loss.set(title="objective after each round", xlabel="round of the span")
        loss.legend(loc="upper right")

    in_every_theme(folder, "span", (5.0, 6.0), paint)
