"""Hidden rules over Boolean inputs: problems, our annealing, and the controls that all tasks of rules share.

loss: share of training labels that are wrong (for real outputs: of the variance that is left); metric: accuracy on
2000 fresh samples with clean labels (for real outputs: share of the variance explained); solved: at least 0.99;
ge: passes over all training samples, where a move of one of K rules is a K-th of a forward pass.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import qanneal_opt as qa
from benchmarks.covering import Pruning, learn
from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.l1_mlp import train
from benchmarks.soft_rules import Soft, relax
from benchmarks.tuning import Round, search

ENOUGH = 0.99
TESTS = 2000
GRADIENT_SECONDS = 2.0  # of CPU for each gradient control: twice what annealing may take
MLP_CAP = 400  # ge
TUNING_SEEDS = range(1000, 1010)

Predict = Callable[[Tensor], Tensor]  # inputs (N, n) -> outputs (N,)


@dataclass(frozen=True, eq=False)
class Problem:
    """Training inputs `(N, n)` and targets `(N,)`, test inputs and targets; how many rules to look for."""

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    rules: int
    real: bool = False


Make = Callable[[int], Problem]


def problem(inputs: np.ndarray, clean: np.ndarray, samples: int, rules: int, *, flips=None, real=False) -> Problem:
    """The first samples, with flipped labels if there are any, and the others clean."""
    x, y = torch.from_numpy(inputs).float(), torch.from_numpy(clean).float()
    seen = y[:samples] if flips is None else (y[:samples] - torch.from_numpy(flips).float()).abs()
    return Problem(x[:samples], seen, x[samples:], y[samples:], rules, real)


def multiplexer(seed: int, samples: int, distractors: int = 19) -> Problem:
    """3 address bits choose one of 8 data bits; their places among the distractors are random."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 2, (samples + TESTS, 11 + distractors))
    bits = inputs[:, rng.permutation(inputs.shape[1])[:11]]
    clean = np.take_along_axis(bits[:, 3:], bits[:, :3] @ np.array([[4], [2], [1]]), 1)[:, 0]
    return problem(inputs, clean, samples, 10)


def terms(rng: np.random.Generator, n: int, count: int, order: int) -> np.ndarray:
    """(count, n) literals of random conjunctions."""
    literals = np.zeros((count, n), np.int8)
    for row in literals:
        row[rng.choice(n, order, replace=False)] = rng.choice([-1, 1], order)
    return literals


def hold(literals: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """(N, K): which conjunctions hold."""
    wrong = (1 - inputs) @ (literals > 0).T + inputs @ (literals < 0).T
    return (wrong == 0) & literals.any(1)


def disjunction(seed: int, n: int, count: int, order: int, samples: int, flipped: float = 0.0) -> Problem:
    """A random DNF of `count` terms of `order` literals."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 2, (samples + TESTS, n))
    clean = hold(terms(rng, n, count, order), inputs).any(1)
    return problem(inputs, clean, samples, count + 4, flips=rng.random(samples) < flipped)


def weighted(seed: int, n: int = 30, count: int = 10, order: int = 3, samples: int = 300) -> Problem:
    """A sum of conjunctions with weights of either sign, 0.5 to 2 in size."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 2, (samples + TESTS, n))
    held = hold(terms(rng, n, count, order), inputs)
    return problem(
        inputs, held @ (rng.choice([-1, 1], count) * rng.uniform(0.5, 2, count)), samples, count + 2, real=True
    )


def measured(task: Problem, predict: Predict, ge: float) -> dict[str, Any]:
    """What a contender returns."""
    with torch.no_grad():
        pairs = ((predict(task.inputs), task.targets), (predict(task.test_inputs), task.test_targets))
        if task.real:
            loss, rest = (float((a - b).square().mean() / b.var()) for a, b in pairs)
        else:
            loss, rest = (float((a.round() != b).float().mean()) for a, b in pairs)
    return {"solved": 1 - rest >= ENOUGH, "loss": loss, "metric": 1 - rest, "ge": ge}


def anneal(task: Problem, seed: int, **options: Any) -> dict[str, Any]:
    """Our layer, annealed once."""
    readout = "linear" if task.real else "or"
    layer = qa.RuleLayer(task.inputs.shape[1], task.rules, readout=readout)
    targets = task.targets[:, None] if task.real else task.targets
    optimizer = qa.AnnealingOptimizer(
        layer.parameters(),
        objective=qa.Objective(layer, mse_loss, (task.inputs, targets)),
        annealing=qa.RuleStep(**options),
        seed=seed,
    )
    record = optimizer.anneal()
    layer.eval()
    found = {"literals": int(torch.count_nonzero(layer.literals))}
    return {**measured(task, lambda x: layer(x).flatten(), record.candidates / (3 * task.rules)), **found}


def gradients(task: Problem, seed: int, setting: Soft, seconds: float = GRADIENT_SECONDS) -> dict[str, Any]:
    """AdamW on the same hypothesis class."""
    model, steps = relax(task.inputs, task.targets, task.rules, task.real, setting, seconds, seed)
    return measured(task, model, float(steps))


def mlp(task: Problem, seed: int, setting: L1Setting, enough: float = ENOUGH) -> dict[str, Any]:
    """A network with an L1 penalty, stopped as soon as its *test* accuracy suffices."""

    def accurate(model: nn.Module) -> bool:
        with torch.no_grad():
            right = (model(task.test_inputs)[:, 0] > 0) == (task.test_targets > 0.5)
        return float(right.float().mean()) >= enough

    model, ge = train(task.inputs, 2 * task.targets - 1, setting, cap=MLP_CAP, seed=seed, done=accurate)
    return measured(task, lambda x: (model(x)[:, 0] > 0).float(), ge)


def fitted(task: Problem, model: Any) -> dict[str, Any]:
    """A model of scikit-learn."""
    model.fit(task.inputs.numpy(), task.targets.numpy())
    return measured(task, lambda x: torch.from_numpy(model.predict(x.numpy())).float(), 1.0)


def tree(task: Problem, seed: int) -> dict[str, Any]:
    """A decision tree, pruned by cross-validation."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    model = (DecisionTreeRegressor if task.real else DecisionTreeClassifier)(random_state=seed)
    return fitted(task, GridSearchCV(model, {"min_samples_leaf": [1, 3, 10], "ccp_alpha": [0.0, 3e-3, 1e-2]}))


def boosting(task: Problem, seed: int) -> dict[str, Any]:
    """Gradient boosting of trees, with depth and rate by cross-validation."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
    from sklearn.model_selection import GridSearchCV

    model = (GradientBoostingRegressor if task.real else GradientBoostingClassifier)(
        random_state=seed, n_estimators=100
    )
    return fitted(task, GridSearchCV(model, {"max_depth": [2, 4], "learning_rate": [0.1, 0.3]}, cv=3))


def l1_conjunctions(task: Problem, _: int) -> dict[str, Any]:
    """L1 regression on conjunctions of at most 2 literals, and of 3 whose pairs it chose; penalty by validation."""
    from sklearn.linear_model import LassoCV

    def columns(x: np.ndarray, supports: list[tuple[int, ...]]) -> np.ndarray:
        both = np.concatenate([x, 1 - x], 1)
        return np.stack([both[:, list(support)].prod(1) for support in supports], 1)

    n, x = task.inputs.shape[1], task.inputs.numpy()
    literals = range(2 * n)
    supports: list[tuple[int, ...]] = [(i,) for i in range(n)]
    supports += [(i, j) for i in literals for j in literals if i < j and j != i + n]
    chosen = LassoCV(cv=3, alphas=20).fit(columns(x, supports), task.targets.numpy())
    strong = [supports[k] for k in np.argsort(-np.abs(chosen.coef_))[:60] if chosen.coef_[k]]
    triples = {
        tuple(sorted({*pair, i}))
        for pair in strong
        if len(pair) == 2
        for i in literals
        if i % n not in {p % n for p in pair}
    }
    supports += sorted(triples)
    model = LassoCV(cv=3, alphas=20).fit(columns(x, supports), task.targets.numpy())
    predict = lambda z: torch.from_numpy(model.predict(columns(z.numpy(), supports))).float()  # noqa: E731
    return measured(task, predict, 1.0)


def covering(task: Problem, seed: int, pruning: Pruning | None = None) -> dict[str, Any]:
    """Sequential covering, without and with pruning."""
    inputs, labels = task.inputs.numpy() > 0.5, task.targets.numpy() > 0.5
    literals = learn(inputs, labels, np.random.default_rng(seed), pruning)
    return measured(task, lambda x: torch.from_numpy(hold(literals, x.numpy()).any(1)).float(), 1.0)


def contenders(
    make: Make, soft: Soft, through: Soft, net: L1Setting | None = None, pruning: Pruning | None = None, **options: Any
) -> dict[str, Any]:
    """All contenders of a task; without a network's setting those of one with real outputs."""
    found: dict[str, Callable[[int], dict[str, Any]]] = {
        "ours": lambda seed: anneal(make(seed), seed, **options),
        "ours_t0": lambda seed: anneal(make(seed), seed, **{**options, "temperature": 0.0}),
        "adamw_rules": lambda seed: gradients(make(seed), seed, soft),
        "straight_through": lambda seed: gradients(make(seed), seed, through),
        "tree": lambda seed: tree(make(seed), seed),
        "boosting": lambda seed: boosting(make(seed), seed),
    }
    if net is None:
        return {**found, "l1_conjunctions": lambda seed: l1_conjunctions(make(seed), seed)}
    return {
        **found,
        "adamw_mlp": lambda seed: mlp(make(seed), seed, net),
        "covering": lambda seed: covering(make(seed), seed),
        "covering_pruned": lambda seed: covering(make(seed), seed, pruning),
    }


def tuning(make: Make, *, net: bool = True) -> Iterator[dict[str, Any]]:
    """All controls that do not tune themselves: most seeds solved, then the best metric.

    Gradients on the same class, smooth and rounded; the network and pruned covering, if there are classes.
    """

    def soft(seconds: float) -> Callable[[Soft, int], dict[str, Any]]:
        return lambda setting, seed: gradients(make(seed), seed, setting, seconds)

    def layers(setting: L1Setting, seed: int) -> dict[str, Any]:
        return mlp(make(seed), seed, setting)

    def covered(setting: Pruning, seed: int) -> dict[str, Any]:
        return covering(make(seed), seed, setting)

    def halving(grid: list[Any], first: Any, second: Any) -> list[Round[Any]]:
        halves = Round(lambda _: grid, first, TUNING_SEEDS[:2], keep=2)
        return [halves, Round(list, second, TUNING_SEEDS[2:6], keep=1)]

    found: dict[str, list[Round[Any]]] = {}
    rates = {"adamw_rules": (0.03, 0.1, 0.3, 1.0, 3.0), "straight_through": (0.003, 0.01, 0.03, 0.1)}
    for name, hard in (("adamw_rules", False), ("straight_through", True)):
        grid = [Soft(lr, decay, hard) for lr, decay in product(rates[name], (0.02, 0.2))]
        found[name] = halving(grid, soft(GRADIENT_SECONDS / 2), soft(GRADIENT_SECONDS))
    if net:
        axes = product((0.003, 0.01), (0.0, 1e-3, 3e-3), (0.0, 0.1))
        nets = [L1Setting("relu", 64, lr, l1, decay, batch=100) for lr, l1, decay in axes]
        found["adamw_mlp"] = halving(nets, layers, layers)
        prunings = [Pruning(least) for least in (1, 3, 6, 10, 15)]
        found["covering_pruned"] = [Round(lambda _: prunings, covered, TUNING_SEEDS, keep=1)]
    for name, rounds in found.items():
        for row in search(rounds, lambda row: (-row["solved"], -row["metric"])):
            yield {"contender": name, **row}
