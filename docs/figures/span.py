"""One span of a real run at three temperatures: accepted moves, moves uphill, and the objective."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn.functional import cross_entropy

import qanneal_opt as qa
from figures import in_every_theme
from figures.net import digits, groups, objective, trained

ROUNDS, WINDOW = 400, 25


def run(temperature: float | tuple[float, float]) -> Sequence[qa.AnnealRecord]:
    """Anneal the same straight-through start for one span, a gradient step on scales and biases before each round."""
    net = trained()
    optimizer = qa.AnnealingOptimizer(
        groups(net),
        lr=5e-3,
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
    runs = {
        "a": ("T = 0", run(0.0)),
        "c": ("T from 0.05 J", run((0.05, 0.0025))),
        "b": ("T from 0.2 J", run((0.2, 0.01))),
    }
    rounds = np.arange(1, ROUNDS + 1)

    def paint(figure: Any, colours: dict[str, str]) -> None:
        from matplotlib.ticker import LogLocator, NullLocator

        share, uphill, loss = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 1.6))
        for colour, (name, records) in runs.items():
            accepted = [record.accepted / record.candidates for record in records]
            up = [record.actual > 0 for record in records]
            share.plot(rounds, smooth(accepted), color=colours[colour])
            uphill.plot(rounds, smooth(up), color=colours[colour])
            loss.plot(rounds, [record.loss_after for record in records], color=colours[colour], label=name)
            loss.plot(
                ROUNDS,
                min(record.loss_after for record in records),
                "o",
                ms=5,
                color=colours[colour],
                clip_on=False,
            )
        share.set(title="share of the judged moves that was accepted", ylim=(0, 1))
        uphill.set(title="share of rounds whose moves went uphill on balance", ylim=(0, 1))
        loss.set(title="objective J after each round; dot: what is put back at the end", xlabel="round of the span")
        loss.set_yscale("log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        loss.yaxis.set_major_formatter("{x:.2g}")
        loss.yaxis.set_minor_locator(NullLocator())
        loss.legend(loc="upper right")

    in_every_theme(folder, "span", (5.0, 6.0), paint)


def smooth(values: Sequence[float]) -> np.ndarray:
    """Means over a window of `WINDOW` rounds, shorter at the ends."""
    kernel = np.ones(WINDOW)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
