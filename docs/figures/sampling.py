"""Minimising a surrogate, sampling it, and sampling it with correction, on a block small enough to enumerate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qanneal_opt as qa
from figures import in_every_theme
from figures.net import objective, trained, weights
from qanneal_opt import judge
from qanneal_opt.curvature import ggn
from qanneal_opt.samplers.exact import all_bits
from qanneal_opt.subset import Subset

MOVES = 12
TEMPERATURE = 0.05  # times the objective
DRAWS = 200_000


@dataclass(frozen=True)
class Block:
    """All `2 ** MOVES` bit strings: true change of the loss, surrogate energy, and two samples of states."""

    temperature: float
    true: np.ndarray  # (S,)
    surrogate: np.ndarray  # (S,)
    drawn: np.ndarray  # (DRAWS,) states drawn from the surrogate
    chain: np.ndarray  # (DRAWS,) the same, corrected by the judge

    @property
    def exact(self) -> np.ndarray:
        """Boltzmann weights of the true loss, `(S,)`."""
        weights = np.exp(-(self.true - self.true.min()) / self.temperature)
        return weights / weights.sum()

    def distance(self, states: np.ndarray) -> float:
        """Total variation distance of a sample from `exact`."""
        share = np.bincount(states, minlength=len(self.true)) / len(states)
        return float(np.abs(share - self.exact).sum() / 2)


def measure() -> Block:
    """Candidates and QUBO as a QuboStep makes them on such a network."""
    net = trained()
    judged, params = objective(net), weights(net)
    loss, gradient = judged.gradient(params)
    temperature = TEMPERATURE * float(loss)
    generator = np.random.default_rng(0)
    gains = [  # a flip moves w by -2 w; Gumbel noise draws moves with weights exp(-g d / T)
        2 * (g * w).detach().double() + temperature * torch.from_numpy(generator.gumbel(size=tuple(w.shape)))
        for g, w in zip(gradient, params)
    ]
    subset = Subset.by_gain(params, gains, MOVES)
    flips = -2 * subset.gather([w.detach() for w in params])  # (MOVES,)

    matrix = ggn(judged, subset)  # (MOVES, MOVES)
    bits = torch.from_numpy(all_bits(MOVES))  # (S, MOVES)
    start = [w.detach().clone() for w in params]
    true = np.empty(len(bits))
    with torch.no_grad():
        for state, row in enumerate(bits):
            for w, old, change in zip(params, start, subset.scatter(flips * row)):
                w.copy_(old + change)
            true[state] = float(judged()) - float(loss)

    single = true[2 ** np.arange(MOVES)[::-1]]  # (MOVES,) exact change of each flip by itself
    couplings = (flips[:, None] * matrix * flips).fill_diagonal_(0.0)
    qubo = qa.Qubo(single, couplings)
    seat = qa.samplers.resolve("exact")
    samples = seat.sample_arrays(qubo, num_reads=DRAWS, seed=0, temperature=temperature)
    drawn = generator.permutation(samples.bits.numpy() @ (2 ** np.arange(MOVES)[::-1]))
    surrogate = qubo.energies(bits).numpy()
    return Block(
        temperature,
        true,
        surrogate,
        drawn,
        corrected(true, surrogate, drawn, temperature, generator.random(DRAWS)),
    )


def corrected(
    true: np.ndarray, energy: np.ndarray, drawn: np.ndarray, temperature: float, uniforms: np.ndarray
) -> np.ndarray:
    """The chain of states that residual Metropolis makes of independent draws."""
    now, chain = 0, np.empty_like(drawn)
    for place, (state, uniform) in enumerate(zip(drawn, uniforms)):
        taken = judge.metropolis(
            [true[state]],
            [energy[state]],
            loss=true[now],
            energy=energy[now],
            temperature=temperature,
            uniforms=[uniform],
        )
        now = now if taken == judge.STAY else state
        chain[place] = now
    return chain


def draw(folder: Path) -> None:
    """Three panels over the true change of the loss."""
    block = measure()

    def paint(figure: Any, colours: dict[str, str]) -> None:
        top, middle, bottom = figure.subplots(3, 1, sharex=True)
        edges = np.linspace(block.true.min() - 0.01, np.quantile(block.true, 0.5), 41)

        top.axvline(block.true[block.surrogate.argmin()], color=colours["b"], lw=2.5, label="minimum of the surrogate")
        top.axvline(block.true.min(), color=colours["ink"], lw=1.3, ls="--", label="true minimum")
        top.axvline(0, color=colours["faint"], lw=1.3, ls=":", label="present weights")
        top.set(title="minimising the surrogate: one state", yticks=[])
        top.legend(loc="center right")

        for axes, states, colour, name in (
            (middle, block.drawn, "b", "sampling the surrogate at T"),
            (bottom, block.chain, "c", "the same draws after residual Metropolis"),
        ):
            share = np.full(len(states), 1 / len(states))
            axes.hist(block.true[states], edges, weights=share, color=colours[colour], alpha=0.75, label="samples")
            axes.hist(
                block.true,
                edges,
                weights=block.exact,
                histtype="step",
                color=colours["ink"],
                lw=1.3,
                label="exact, exp(−f / T)",
            )
            axes.set(title=f"{name}: distance {block.distance(states):.2f}", ylabel="probability")
            axes.legend(loc="upper right")
        bottom.set(xlabel="true change of the loss, f(b) − f(0)")

    in_every_theme(folder, "sampling", (5.0, 5.6), paint)
