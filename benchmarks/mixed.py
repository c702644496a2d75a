"""Rules between trained parts: problems, the alternation of gradients and annealing, and what either does alone.

loss: share of training labels that are wrong; metric: accuracy on 2000 fresh samples; solved: at least 0.95;
ge: passes over all training samples, where a move of one of K rules is a K-th of a forward pass.

Controls have four times the CPU time that the alternation may take, and every doubt is theirs: of all their restarts
and stopping times the one with the best *test* accuracy is reported, and they end as soon as that suffices.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

import qanneal_opt as qa
from benchmarks import rules
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.rules import TESTS, TUNING_SEEDS, Problem
from benchmarks.tuning import Round, search

ENOUGH = 0.95
SECONDS = 8.0  # of CPU for each control
STEPS, CHECK = 1000, 100  # gradient steps of a control's restart, and between its looks at test samples

Make = Callable[[int], Problem]


class SoftRules(qa.RuleLayer):
    """The same layer with memberships of literals in (0, 1) that gradients train, rounded in eval mode."""

    def __init__(self, in_features: int, count: int, *, hard: bool, **options: Any) -> None:
        super().__init__(in_features, count, **options)
        self.hard = hard  # rounded forward, smooth backward (straight-through)
        self.members = nn.Parameter(0.5 * torch.randn(2, *self.literals.shape) - 2.0)  # logits: plain and negated

    def activations(self, inputs: Tensor) -> Tensor:
        """How far each rule holds, (N, K)."""
        values, members = self.values(inputs).unsqueeze(-2), self.members.sigmoid()  # (N, 1, n), (2, K, n)
        if not self.training:
            members = members.round()
            return self._held(values, members) * (members > 0).any(0).any(-1)
        if self.hard:
            values, members = (part + (part.round() - part).detach() for part in (values, members))
        return self._held(values, members)

    @staticmethod
    def _held(values: Tensor, members: Tensor) -> Tensor:
        plain, negated = members
        return ((1 - plain * (1 - values)) * (1 - negated * values)).prod(-1)


class Score(nn.Module):
    """Logits (N,) of inputs (N, linear + rest): a linear part, and rules over what lies below makes of the rest."""

    def __init__(self, layer: qa.RuleLayer, linear: int = 0, below: nn.Module | None = None) -> None:
        super().__init__()
        self.linear, self.below, self.layer = linear, below or nn.Identity(), layer
        self.head = nn.Linear(linear + 1, 1)
        with torch.no_grad():  # a rule that holds asks for a label 1, and nothing else does anything yet
            self.head.weight.zero_()
            self.head.weight[0, -1], self.head.bias[0] = 2.0, -1.0

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        held = self.layer(self.below(x[:, self.linear :]))
        logits: Tensor = self.head(torch.cat([x[:, : self.linear], held[:, None]], 1))[:, 0]
        return logits


Layer = Callable[..., qa.RuleLayer]  # of (in_features, rules, thresholds=...)
Build = Callable[[Problem, Layer], Score]  # the model at its start


def address(bits: np.ndarray, wires: int) -> np.ndarray:
    """The multiplexer: `wires` bits choose one of 2^wires others."""
    chosen = bits[:, :wires] @ (1 << np.arange(wires))[::-1]
    return np.take_along_axis(bits[:, wires:], chosen[:, None], 1)[:, 0]


def measurements(rng: np.random.Generator, uniform: np.ndarray) -> np.ndarray:
    """Columns of all sorts of distributions, scales and zeros from uniform ones; the order of samples is kept."""
    normal = torch.special.ndtri(torch.from_numpy(uniform)).numpy()
    shapes = np.stack([normal, np.exp(0.7 * normal), -np.log1p(-uniform), 3 * uniform])
    columns = np.take_along_axis(shapes, rng.integers(0, len(shapes), uniform.shape[1])[None, None], 0)[0]
    scale = 10 ** rng.uniform(-1, 2, uniform.shape[1])
    return scale * (columns + rng.uniform(-2, 2, uniform.shape[1]))


def regimes(seed: int, n: int, samples: int, wires: int, linear: int = 0, weight: float = 1.0) -> Problem:
    """A multiplexer of comparisons with thresholds at quantiles 0.25 to 0.75, alone or added to a linear score."""
    rng = np.random.default_rng(seed)
    uniform = rng.random((samples + TESTS, n)).clip(1e-6, 1 - 1e-6)
    bits = (uniform > rng.uniform(0.25, 0.75, n)).astype(np.int64)
    held = address(bits[:, rng.permutation(n)[: wires + 2**wires]], wires)
    inputs = measurements(rng, uniform)
    if linear:
        z, beta = rng.normal(size=(len(inputs), linear)), rng.normal(size=linear)
        held = z @ beta / np.linalg.norm(beta) + weight * (2 * held - 1) > 0
        inputs = np.concatenate([z, inputs], 1)
    return rules.problem(inputs, held, samples, 2**wires + 4)


def over_thresholds(task: Problem, layer: Layer, linear: int = 0, thresholds: int = 1) -> Score:
    """Rules over comparisons with thresholds, which start at quantiles of the training samples."""
    found = layer(task.inputs.shape[1] - linear, task.rules, thresholds=thresholds)
    found.place_thresholds(task.inputs[:, linear:])
    return Score(found, linear)


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """The share of labels that the logits' signs give."""
    with torch.no_grad():
        return float(((model(inputs) > 0) == (targets > 0.5)).float().mean())


def judged(model: nn.Module, task: Problem, ge: float) -> dict[str, Any]:
    """What a contender returns of a model in its present mode."""
    metric = accuracy(model, task.test_inputs, task.test_targets)
    return {
        "solved": metric >= ENOUGH,
        "loss": 1 - accuracy(model, task.inputs, task.targets),
        "metric": metric,
        "ge": ge,
    }


@dataclass(frozen=True)
class Alternation:
    """Gradient steps at a rate, and an annealing step every so many of them."""

    lr: float
    steps: int
    every: int
    restarts: int = 5
    moves: int = 50_000


def alternate(task: Problem, seed: int, build: Build, setting: Alternation, **options: Any) -> dict[str, Any]:
    """The public alternation, once."""
    torch.manual_seed(seed)
    model = build(task, qa.RuleLayer)
    optimizer = qa.AnnealingOptimizer(
        model.parameters(),
        objective=qa.Objective(model, cross_entropy, (task.inputs, task.targets)),
        annealing=qa.RuleStep(restarts=setting.restarts, moves=setting.moves, **options),
        schedule=qa.Every(setting.every),
        seed=seed,
        lr=setting.lr,
        weight_decay=0.0,
    )
    for _ in range(setting.steps):
        optimizer.zero_grad()
        cross_entropy(model(task.inputs), task.targets).backward()
        optimizer.step()
    moves = sum(record.candidates for record in optimizer.records)
    return judged(model.eval(), task, 3 * setting.steps + moves / task.rules)


class Record:
    """The best test accuracy a control has shown, and whether it may go on."""

    def __init__(self, task: Problem) -> None:
        self.task, self.until = task, time.process_time() + SECONDS
        self.best: dict[str, Any] = {"metric": -1.0, "solved": False}

    @property
    def open(self) -> bool:
        """Whether there is time left and something to gain."""
        return not self.best["solved"] and time.process_time() < self.until

    def look(self, model: nn.Module, ge: float) -> None:
        """Take a model if it is better."""
        self.best = max(self.best, judged(model, self.task, ge), key=lambda one: one["metric"])


def anneal(task: Problem, seed: int, build: Build, setting: Alternation, **options: Any) -> dict[str, Any]:
    """Annealing steps from fresh starts, each with the step's own refit of what lies above; what lies below stays."""
    torch.manual_seed(seed)
    record, moves = Record(task), 0
    while record.open:
        model = build(task, qa.RuleLayer)
        optimizer = qa.AnnealingOptimizer(
            model.parameters(),
            objective=qa.Objective(model, cross_entropy, (task.inputs, task.targets)),
            annealing=qa.RuleStep(restarts=setting.restarts, moves=setting.moves, **options),
            seed=int(torch.randint(2**31, ())),
        )
        for _ in range(setting.steps // setting.every):
            moves += optimizer.anneal().candidates
            record.look(model.eval(), moves / task.rules)
            if not record.open:
                break
    return {**record.best, "ge": moves / task.rules}


@dataclass(frozen=True)
class Soft:
    """`decay` pulls memberships to none; `hard`: rounded forward, smooth backward (straight-through)."""

    lr: float
    decay: float
    hard: bool


def gradients(task: Problem, seed: int, build: Build, setting: Soft) -> dict[str, Any]:
    """AdamW on the same model with soft literals, from fresh starts; judged as it is and with rounded literals."""
    torch.manual_seed(seed)
    record, steps = Record(task), 0
    while record.open:
        model = build(task, partial(SoftRules, hard=setting.hard))
        base = torch.optim.AdamW(model.parameters(), lr=setting.lr, weight_decay=0.0, fused=True)
        for step in range(1, STEPS + 1):
            members = model.layer.members.sigmoid().sum() / len(task.inputs)
            base.zero_grad()
            (cross_entropy(model(task.inputs), task.targets) + setting.decay * members).backward()
            base.step()
            steps += 1
            if step % CHECK == 0:
                record.look(model.eval(), 0.0)
                record.look(model.train(), 0.0)
                if not record.open:
                    break
    return {**record.best, "ge": 3.0 * steps}


def in_units(task: Problem) -> Problem:
    """Inputs of mean 0 and variance 1, for networks."""
    mean, spread = task.inputs.mean(0), task.inputs.std(0)
    return replace(task, inputs=(task.inputs - mean) / spread, test_inputs=(task.test_inputs - mean) / spread)


def peer(found: dict[str, Any]) -> dict[str, Any]:
    """What a contender of `benchmarks.rules` returned, by our measure of success."""
    return {**found, "solved": found["metric"] >= ENOUGH}


def contenders(
    make: Make, build: Build, ours: Alternation, soft: Soft, through: Soft, net: L1Setting
) -> dict[str, Callable[[int], dict[str, Any]]]:
    """The contenders of every task."""
    return {
        "ours": lambda seed: alternate(make(seed), seed, build, ours),
        "ours_t0": lambda seed: alternate(make(seed), seed, build, ours, temperature=0.0),
        "gradients_soft": lambda seed: gradients(make(seed), seed, build, soft),
        "gradients_straight_through": lambda seed: gradients(make(seed), seed, build, through),
        "annealing": lambda seed: anneal(make(seed), seed, build, ours),
        "adamw_mlp": lambda seed: peer(rules.mlp(in_units(make(seed)), seed, net)),
        "tree": lambda seed: peer(rules.tree(make(seed), seed)),
        "boosting": lambda seed: peer(rules.boosting(make(seed), seed)),
    }


def tuning(make: Make, build: Build, hard: bool) -> Iterator[dict[str, Any]]:
    """Gradients alone: most seeds solved, then the best metric."""

    def evaluate(setting: Soft, seed: int) -> dict[str, Any]:
        return gradients(make(seed), seed, build, setting)

    grid = [Soft(lr, decay, hard) for lr, decay in product((0.01, 0.03, 0.1), (0.0, 0.1, 0.5))]
    rounds = [
        Round(lambda _: grid, evaluate, TUNING_SEEDS[:2], keep=3),
        Round(list, evaluate, TUNING_SEEDS[2:6], keep=1),
    ]
    return search(rounds, lambda row: (-row["solved"], -row["metric"]))
