"""Rules between trained parts: the alternation of gradients and annealing, and what either does alone.

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

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

import qanneal_opt as qa
from benchmarks import rules
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.mixed_models import Score, SoftRules
from benchmarks.rules import TUNING_SEEDS, Problem
from benchmarks.tuning import Round, search

STEPS, CHECK = 1000, 100  # gradient steps of a control's restart, and between its looks at test samples
PRICE = 0.7  # of a literal, in errors


Layer = Callable[..., qa.RuleLayer]  # of (in_features, rules, thresholds=...)


@dataclass(frozen=True)
class Mixed:
    """A task: problems by seed, the model at its start, the test accuracy that solves it, a control's CPU seconds."""

    make: Callable[[int], Problem]
    build: Callable[[Problem, Layer], Score]
    enough: float
    seconds: float = 10.0


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
    steps: int = 300
    every: int = 30
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

    def __init__(self, task: Problem, mixed: Mixed) -> None:
        self.task, self.enough, self.until = task, mixed.enough, time.process_time() + mixed.seconds
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
    best, moves = Best(task, mixed), 0
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
    best, steps = Best(task, mixed), 0
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


def network(mixed: Mixed, seed: int, setting: L1Setting) -> dict[str, Any]:
    """A network, stopped as soon as its *test* accuracy suffices."""
    found = rules.mlp(in_units(mixed.make(seed)), seed, setting, mixed.enough)
    return {**found, "solved": found["metric"] >= mixed.enough}


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
        "adamw_mlp": lambda seed: network(mixed, seed, net),
        "tree": lambda seed: peer(rules.tree(mixed.make(seed), seed)),
        "boosting": lambda seed: peer(boosting(mixed.make(seed), seed)),
    }
    if finer is not None:
        found["annealing_7_thresholds"] = lambda seed: anneal(finer, seed, ours)
    return found


def tuning(mixed: Mixed) -> Iterator[dict[str, Any]]:
    """Gradients alone on the same model, and the network: most seeds solved, then the best metric."""

    def alone(setting: Soft, seed: int) -> dict[str, Any]:
        return gradients(mixed, seed, setting)

    def layers(setting: L1Setting, seed: int) -> dict[str, Any]:
        return network(mixed, seed, setting)

    grid = [Soft(*one, hard="thresholds") for one in product((0.02, 0.05), (0.03, 0.1, 0.3))]
    grid += [Soft(0.05, 0.1, hard) for hard in ("nothing", "literals")]
    axes = product((0.003, 0.01), (0.0, 1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.1))
    nets = [L1Setting("relu", 64, lr, l1, decay, batch=100) for lr, l1, decay in axes]
    found: dict[str, list[Round[Any]]] = {
        "gradients": [
            Round(lambda _: grid, alone, TUNING_SEEDS[:1], keep=2),
            Round(list, alone, TUNING_SEEDS[1:4], keep=1),
        ],
        "adamw_mlp": [
            Round(lambda _: nets, layers, TUNING_SEEDS[:2], keep=3),
            Round(list, layers, TUNING_SEEDS[2:6], keep=1),
        ],
    }
    for name, rounds in found.items():
        for row in search(rounds, lambda row: (-row["solved"], -row["metric"])):
            yield {"contender": name, **row}
