"""The demo's tasks: a seed in, a result out, for the baselines, for the alternation and for its controls.

Settings were chosen on seeds from 1000; the demo and the benchmarks report others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import qanneal_opt as qa
from qanneal_opt.demo import alternation, patterns
from qanneal_opt.demo.alternation import Plan
from qanneal_opt.demo.baselines import belief_propagation, binary_perceptron
from qanneal_opt.demo.baselines import straight_through as straight
from qanneal_opt.demo.baselines.binary_net import REFIT_STEPS
from qanneal_opt.demo.data import digits, random_patterns

Contender = Callable[[int], dict[str, Any]]

BUDGET = 5.8  # CPU seconds of the straight-through baselines on digits: at least what the alternation takes
PERCEPTRON_BUDGET = 0.4  # CPU seconds of a contender that does not solve its perceptron
SIZE = 501
DECAYS = (0.97, 0.99, 0.995, 0.998, 0.999)  # of reinforced belief propagation, tried in turn


def straight_through(
    seed: int,
    setting: straight.Setting,
    *,
    hidden: Sequence[int] = (6,),
    budget: float = BUDGET,
    smoothing: float = 0.0,
    target: float = 0.90,
) -> dict[str, Any]:
    """Train the compiled straight-through baseline for ``budget`` CPU seconds; best of its restarts."""
    split = digits(seed)
    net = straight.train(split, hidden, setting, budget=budget, seed=seed, smoothing=smoothing)
    accuracy = float((net.logits(split.test_inputs).argmax(1) == split.test_targets).mean())
    passes = net.steps * setting.batch / len(split.train_targets) + setting.restarts * REFIT_STEPS
    return {"solved": accuracy >= target, "loss": net.loss, "metric": accuracy, "ge": passes}


def alternate(
    seed: int,
    step: Any,
    plan: Plan,
    *,
    hidden: Sequence[int] = (6,),
    target: float = 0.90,
) -> dict[str, Any]:
    """Train by gradient and annealing steps in turn."""
    net = alternation.train(digits(seed), hidden, step, plan, seed)
    return {"solved": net.accuracy >= target, "loss": net.loss, "metric": net.accuracy, "ge": net.gradients}


def straight_through_perceptron(seed: int, load: float, setting: binary_perceptron.Setting) -> dict[str, Any]:
    """Restarts of straight-through training until solved or the budget is used."""
    inputs, labels = random_patterns(seed, SIZE, load)
    weights, _, epochs = binary_perceptron.train(inputs, labels, setting, budget=PERCEPTRON_BUDGET, seed=seed)
    return patterns.measured(inputs, labels, weights, epochs)


def reinforced_bp(seed: int, load: float) -> dict[str, Any]:
    """The specialised algorithm; an iteration is two products with the patterns, as a gradient is."""
    inputs, labels = random_patterns(seed, SIZE, load)
    weights, _, iterations = belief_propagation.solve(inputs, labels, decays=DECAYS, seed=seed)
    return patterns.measured(inputs, labels, weights, iterations)


def annealed_perceptron(seed: int, load: float, temperature: tuple[float, float]) -> dict[str, Any]:
    """Uniform sweeps of :class:`DirectStep` on the squared hinge with a margin, and descents with a narrow one."""
    inputs, labels = random_patterns(seed, SIZE, load)
    weights, passes = patterns.anneal(inputs, labels, seed=seed, budget=PERCEPTRON_BUDGET, temperature=temperature)
    return patterns.measured(inputs, labels, weights, passes)


# Clipped latents and a gradient that passes through the scale as well: without them straight-through is far worse.
CLIPPED = straight.Setting(lr=0.03, batch=32, restarts=8, clip=0.5, chain=True)
CLIPPED_SMOOTH = straight.Setting(lr=0.01, batch=128, restarts=4, clip=0.3, chain=True, decay=0.01)
PERCEPTRON = {
    0.6: binary_perceptron.Setting(0.01, batch=4, margin=0.2, squared=True, adaptive=True, epochs=100),
    0.7: binary_perceptron.Setting(0.1, batch=16, margin=0.2, squared=True, adaptive=False, epochs=400),
}
HEAT = (0.05, 0.002)
QUBO_HEAT = (0.05, 0.002)
SMOOTH_HEAT = (0.001, 0.0002)
DIRECT = Plan(replace(CLIPPED, restarts=2), warmup=1.2, calls=400)
QUBO = Plan(replace(CLIPPED, restarts=2), warmup=1.2, calls=300)
SMOOTH = Plan(replace(CLIPPED_SMOOTH, restarts=2), warmup=1.2, calls=200, smoothing=0.05)
PATTERN_HEAT = (0.08, 0.06)  # for the sum over patterns


def warm_up() -> None:
    """Compile, or load, all that the contenders run, so that their clocks start after it."""
    for step, hidden in ((qa.DirectStep(rounds=2), (6,)), (qa.QuboStep(), (12,))):
        alternate(1000, step, Plan(CLIPPED, 0.01, calls=2, polish=2), hidden=hidden)
    for smoothing in (0.0, 0.05):
        straight_through(1000, CLIPPED, budget=0.01, smoothing=smoothing)
    for load, setting in PERCEPTRON.items():
        straight_through_perceptron(1000, load, setting)
    reinforced_bp(1000, 0.6)
    annealed_perceptron(1000, 0.6, PATTERN_HEAT)


def _direct(temperature: float | tuple[float, float]) -> qa.DirectStep:
    return qa.DirectStep(rounds=10, temperature=temperature)


def _perceptrons(load: float) -> dict[str, Contender]:
    return {
        "straight_through": lambda seed: straight_through_perceptron(seed, load, PERCEPTRON[load]),
        "rbp": lambda seed: reinforced_bp(seed, load),
        "ours": lambda seed: annealed_perceptron(seed, load, PATTERN_HEAT),
        "ours_t0": lambda seed: annealed_perceptron(seed, load, (0.0, 0.0)),
    }


TASKS: dict[str, dict[str, Contender]] = {
    "digits_binary": {
        "straight_through": lambda seed: straight_through(seed, CLIPPED),
        "ours": lambda seed: alternate(seed, _direct(HEAT), DIRECT),
        "ours_t0": lambda seed: alternate(seed, _direct(0.0), DIRECT),
        "qubo": lambda seed: alternate(seed, qa.QuboStep(temperature=QUBO_HEAT), QUBO),
        "qubo_t0": lambda seed: alternate(seed, qa.QuboStep(temperature=0.0, num_reads=4), QUBO),
    },
    "digits_smooth": {
        "straight_through": lambda seed: straight_through(
            seed, CLIPPED_SMOOTH, hidden=(12,), smoothing=0.05, target=0.95
        ),
        "ours": lambda seed: alternate(seed, _direct(SMOOTH_HEAT), SMOOTH, hidden=(12,), target=0.95),
        "ours_t0": lambda seed: alternate(seed, _direct(0.0), SMOOTH, hidden=(12,), target=0.95),
    },
    "perceptron": _perceptrons(0.6),
    "perceptron_07": _perceptrons(0.7),
}
