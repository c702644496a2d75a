"""Rules between trained parts: problems, the alternation of gradients and annealing, and what either does alone.

loss: share of training labels that are wrong; metric: accuracy on 2000 fresh samples; solved: as accurate as the task
asks; ge: passes over all training samples, where a move of one of K rules is a K-th of a forward pass.

Gradients alone and annealing alone have four times the CPU time that the alternation takes, and every doubt is theirs:
of all their restarts and stopping times the one with the best *test* accuracy is reported, and they end as soon as
that suffices.
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
from qanneal_opt.nn.rules import WIDTH

SECONDS = 8.0  # of CPU for each control
STEPS, CHECK = 1000, 100  # gradient steps of a control's restart, and between its looks at test samples
PRICE = 0.7  # of a literal, in errors


class SoftRules(qa.RuleLayer):
    """The same layer with memberships of literals in (0, 1) that gradients train, rounded in eval mode.

    `hard` forward and smooth backward (straight-through) are `"nothing"`, the `"thresholds"`, or also the `"literals"`.
    """

    def __init__(self, in_features: int, count: int, *, hard: str, **options: Any) -> None:
        super().__init__(in_features, count, **options)
        self.hard = hard
        self.members = nn.Parameter(0.5 * torch.randn(2, *self.literals.shape) - 2.0)  # logits: plain and negated

    def activations(self, inputs: Tensor) -> Tensor:
        """How far each rule holds, (N, K)."""
        members = self.members.sigmoid()  # (2, K, n)
        if not self.training:
            members = members.round()
            return self._held(self.values(inputs), members) * (members > 0).any(0).any(-1)
        if self.hard == "literals":
            members = members + (members.round() - members).detach()
        return self._held(self.smooth(inputs) if self.hard == "nothing" else self.values(inputs), members)

    def smooth(self, inputs: Tensor) -> Tensor:
        """How far inputs are above thresholds."""
        units = (inputs.unsqueeze(-1) - self.centre) / self.spread
        return ((units - self.thresholds) / WIDTH).sigmoid().flatten(-2)

    @staticmethod
    def _held(values: Tensor, members: Tensor) -> Tensor:
        (plain, negated), values = members, values.unsqueeze(-2)  # (K, n), (N, 1, n)
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


@dataclass(frozen=True)
class Mixed:
    """A task: problems by seed, the model at its start, and the test accuracy that solves it."""

    make: Callable[[int], Problem]
    build: Callable[[Problem, Layer], Score]
    enough: float


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
    """A multiplexer of comparisons with thresholds at quantiles 0.3 to 0.7, alone or added to a linear score."""
    rng = np.random.default_rng(seed)
    uniform = rng.random((samples + TESTS, n)).clip(1e-6, 1 - 1e-6)
    bits = (uniform > rng.uniform(0.3, 0.7, n)).astype(np.int64)
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


def judged(model: nn.Module, task: Problem, enough: float, ge: float) -> dict[str, Any]:
    """What a contender returns of a model in its present mode."""
    metric, right = accuracy(model, task.test_inputs, task.test_targets), accuracy(model, task.inputs, task.targets)
    return {"solved": metric >= enough, "loss": 1 - right, "metric": metric, "ge": ge}


@dataclass(frozen=True)
class Alternation:
    """Gradient steps at a rate that falls to 0, and annealing before the first and after every so many of them."""

    lr: float = 0.05
    steps: int = 200
    every: int = 50
    restarts: int = 2
    moves: int = 50_000


def annealed(model: Score, task: Problem, setting: Alternation, **options: Any) -> qa.AnnealingOptimizer:
    """The optimizer of a model, with its annealing step."""
    return qa.AnnealingOptimizer(
        model.parameters(),
        objective=qa.Objective(model, cross_entropy, (task.inputs, task.targets)),
        annealing=qa.RuleStep(l0=PRICE, restarts=setting.restarts, moves=setting.moves, **options),
        schedule=qa.Every(setting.every),
        seed=int(torch.randint(2**31, ())),
        lr=setting.lr,
        weight_decay=0.0,
    )


def alternate(mixed: Mixed, seed: int, setting: Alternation, **options: Any) -> dict[str, Any]:
    """The public alternation, once."""
    task = mixed.make(seed)
    torch.manual_seed(seed)
    model = mixed.build(task, qa.RuleLayer)
    optimizer = annealed(model, task, setting, **options)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, setting.steps)
    optimizer.anneal()  # without rules gradients have nothing to work with
    for _ in range(setting.steps):
        optimizer.zero_grad()
        cross_entropy(model(task.inputs), task.targets).backward()
        optimizer.step()
        rate.step()
    moves = sum(record.candidates for record in optimizer.records)
    return judged(model.eval(), task, mixed.enough, 3 * setting.steps + moves / task.rules)


class Best:
    """The best test accuracy a control has shown, and whether it may go on."""

    def __init__(self, task: Problem, enough: float) -> None:
        self.task, self.enough, self.until = task, enough, time.process_time() + SECONDS
        self.row: dict[str, Any] = {"metric": -1.0, "solved": False}

    @property
    def open(self) -> bool:
        """Whether there is time left and something to gain."""
        return not self.row["solved"] and time.process_time() < self.until

    def look(self, model: nn.Module) -> None:
        """Take a model if it is better."""
        self.row = max(self.row, judged(model, self.task, self.enough, 0.0), key=lambda row: row["metric"])


def anneal(mixed: Mixed, seed: int, setting: Alternation, **options: Any) -> dict[str, Any]:
    """Annealing alone, from fresh starts: the step refits what lies above, and what lies below stays at its start."""
    task = mixed.make(seed)
    torch.manual_seed(seed)
    best, moves = Best(task, mixed.enough), 0
    while best.open:
        model = mixed.build(task, qa.RuleLayer)
        optimizer = annealed(model, task, setting, **options)
        for _ in range(1 + setting.steps // setting.every):
            moves += optimizer.anneal().candidates
            best.look(model.eval())
            if not best.open:
                break
    return {**best.row, "ge": moves / task.rules}


@dataclass(frozen=True)
class Soft:
    """`decay` pulls memberships to none; `hard`: what is straight-through."""

    lr: float
    decay: float
    hard: str


def gradients(mixed: Mixed, seed: int, setting: Soft) -> dict[str, Any]:
    """AdamW on the same model with soft literals, from fresh starts; judged as it is and with rounded literals."""
    task = mixed.make(seed)
    torch.manual_seed(seed)
    best, steps = Best(task, mixed.enough), 0
    while best.open:
        model = mixed.build(task, partial(SoftRules, hard=setting.hard))
        base = torch.optim.AdamW(model.parameters(), lr=setting.lr, weight_decay=0.0, fused=True)
        for step in range(1, STEPS + 1):
            members = model.layer.members.sigmoid().sum() / len(task.inputs)
            base.zero_grad()
            (cross_entropy(model(task.inputs), task.targets) + setting.decay * members).backward()
            base.step()
            steps += 1
            if step % CHECK == 0:
                best.look(model.eval())
                best.look(model.train())
            if not best.open:
                break
    return {**best.row, "ge": 3.0 * steps}


def in_units(task: Problem) -> Problem:
    """Inputs of mean 0 and variance 1, for networks."""
    mean, spread = task.inputs.mean(0), task.inputs.std(0)
    return replace(task, inputs=(task.inputs - mean) / spread, test_inputs=(task.test_inputs - mean) / spread)


def boosting(task: Problem, seed: int) -> dict[str, Any]:
    """Gradient boosting of trees over binned inputs, with size and rate by cross-validation."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GridSearchCV

    grid = {"max_leaf_nodes": [4, 15], "learning_rate": [0.05, 0.2]}
    return rules.fitted(task, GridSearchCV(HistGradientBoostingClassifier(random_state=seed), grid, cv=3))


def contenders(
    mixed: Mixed, finer: Mixed | None, ours: Alternation, soft: Soft, net: L1Setting
) -> dict[str, Callable[[int], dict[str, Any]]]:
    """The contenders of a task; `finer`: the same one with more thresholds, for annealing alone."""

    def peer(found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "solved": found["metric"] >= mixed.enough}

    found: dict[str, Callable[[int], dict[str, Any]]] = {
        "ours": lambda seed: alternate(mixed, seed, ours),
        "ours_t0": lambda seed: alternate(mixed, seed, ours, temperature=0.0),
        "gradients": lambda seed: gradients(mixed, seed, soft),
        "annealing": lambda seed: anneal(mixed, seed, ours),
        "adamw_mlp": lambda seed: peer(rules.mlp(in_units(mixed.make(seed)), seed, net)),
        "tree": lambda seed: peer(rules.tree(mixed.make(seed), seed)),
        "boosting": lambda seed: peer(boosting(mixed.make(seed), seed)),
    }
    if finer is not None:
        found["annealing_7_thresholds"] = lambda seed: anneal(finer, seed, ours)
    return found


def tuning(mixed: Mixed) -> Iterator[dict[str, Any]]:
    """Gradients alone: most seeds solved, then the best metric."""

    def evaluate(setting: Soft, seed: int) -> dict[str, Any]:
        return gradients(mixed, seed, setting)

    grid = [Soft(*one, hard="thresholds") for one in product((0.02, 0.05), (0.03, 0.1, 0.3))]
    grid += [Soft(0.05, 0.1, hard) for hard in ("nothing", "literals")]
    rounds = [
        Round(lambda _: grid, evaluate, TUNING_SEEDS[:1], keep=2),
        Round(list, evaluate, TUNING_SEEDS[1:4], keep=1),
    ]
    return search(rounds, lambda row: (-row["solved"], -row["metric"]))
