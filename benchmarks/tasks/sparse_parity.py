"""Hidden parity of 3 of 40 random signs, from 300 samples.

loss: share of training samples that are wrong; metric: accuracy on 2000 fresh samples; solved: at least
0.99 within the cap; ge: forward and backward passes of a contender's own network over all the samples, and
what else it cost. The task file of another number of samples has only numbers of its own.

`ours` samples the QUBOs of `benchmarks.row_search`, `greedy_pairs` and `greedy_flips` solve the same ones at
T = 0; all three stop by the training samples alone. `adamw_l1` is stopped as soon as its *test* accuracy,
looked at every 10 ge, suffices. `exhaustive` tries every support of at most 3 inputs: the control for a
target this small.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.l1_mlp import Setting as L1Setting
from benchmarks.l1_mlp import train
from benchmarks.row_search import RowSearch, Setting, Solve, greedy
from benchmarks.tuning import Round, search
from qanneal_opt import samplers
from qanneal_opt.qubo import Qubo

NAME = "sparse_parity"
BASELINE = "adamw_l1"
METRIC = "test accuracy"
TUNING_SEEDS = range(1000, 1010)
INPUTS, ORDER, SAMPLES, TESTS = 40, 3, 300, 2000
ENOUGH = 0.99
CAP, BASELINE_CAP = 500, 2400  # ge
SETTING = Setting(depth=2)
L1_SETTING = L1Setting("tanh", 64, lr=0.1, l1=3e-4, weight_decay=0.3, batch=30)


def parity(seed: int, samples: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training inputs `(samples, 40)` and labels `(samples,)`, test inputs and labels; all are -1 or 1."""
    generator = torch.Generator().manual_seed(seed)
    support = torch.randperm(INPUTS, generator=generator)[:ORDER]
    inputs = torch.randint(2, (samples + TESTS, INPUTS), generator=generator) * 2.0 - 1.0
    labels = inputs[:, support].prod(1)
    return inputs[:samples], labels[:samples], inputs[samples:], labels[samples:]


def accuracy(model: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> float:
    """Share of samples on whose side of zero the output is."""
    with torch.no_grad():
        return float((model(inputs).flatten() * labels > 0).float().mean())


def measured(seed: int, samples: int, model: Callable[[Tensor], Tensor], ge: float, cap: float) -> dict[str, Any]:
    """What a contender returns."""
    inputs, labels, test_inputs, test_labels = parity(seed, samples)
    metric = accuracy(model, test_inputs, test_labels)
    solved = metric >= ENOUGH and ge <= cap
    return {"solved": solved, "loss": 1 - accuracy(model, inputs, labels), "metric": metric, "ge": ge}


def rows(seed: int, samples: int, solve: Solve) -> dict[str, Any]:
    """The search for sparse rows with one way to solve its QUBOs."""
    inputs, labels, _, _ = parity(seed, samples)
    found = RowSearch(inputs, labels, solve, SETTING, torch.Generator().manual_seed(seed))
    found.run(CAP)
    counts = {
        "row_models": found.models,
        "judged": found.judged,
        "nonzero": int(torch.count_nonzero(found.rows)),
    }
    return {**measured(seed, samples, found.model, found.ge, CAP), **counts}


@cache
def annealer() -> samplers.Seat:
    """The package's default sampler."""
    return samplers.resolve("annealer")


def anneal(qubo: Qubo, seed: int) -> Tensor:
    """One sample of a low energy."""
    return torch.as_tensor(annealer().sample_arrays(qubo, num_reads=1, seed=seed).bits)[0]


def adamw_l1(seed: int, samples: int, setting: L1Setting) -> dict[str, Any]:
    """Gradients with an L1 penalty, stopped at the best time."""
    inputs, labels, test_inputs, test_labels = parity(seed, samples)

    def done(model: nn.Module) -> bool:
        return accuracy(model, test_inputs, test_labels) >= ENOUGH

    model, ge = train(inputs, labels, setting, cap=BASELINE_CAP, seed=seed, done=done)
    return measured(seed, samples, model, ge, BASELINE_CAP)


def exhaustive(seed: int, samples: int) -> dict[str, Any]:
    """The product of at most 3 inputs that agrees best with the labels.

    A product costs N multiplications and so does its correlation, in the ge of the network of `ours`.
    """
    inputs, labels, _, _ = parity(seed, samples)
    supports = [places for order in range(1, ORDER + 1) for places in combinations(range(INPUTS), order)]
    products: dict[tuple[int, ...], Tensor] = {(): labels}
    for places in supports:  # the labels times the product of a support, from those of the support but one
        products[places] = products[places[:-1]] * inputs[:, places[-1]]
    scores = torch.stack([products[places].mean() for places in supports])  # (S,)
    best = int(scores.abs().argmax())
    support, sign = list(supports[best]), float(scores[best].sign())
    ge = 2 * len(supports) / (3 * (INPUTS + 1) * SETTING.hidden)
    return measured(seed, samples, lambda x: sign * x[:, support].prod(1), ge, CAP)


def contenders(samples: int, l1_setting: L1Setting) -> dict[str, Callable[[int], dict[str, Any]]]:
    """All contenders at a number of samples, with the baseline's setting for it."""
    return {
        "ours": lambda seed: rows(seed, samples, anneal),
        "greedy_pairs": lambda seed: rows(seed, samples, lambda qubo, _: greedy(qubo, pairs=True)),
        "greedy_flips": lambda seed: rows(seed, samples, lambda qubo, _: greedy(qubo, pairs=False)),
        "adamw_l1": lambda seed: adamw_l1(seed, samples, l1_setting),
        "exhaustive": lambda seed: exhaustive(seed, samples),
    }


def tuning_rows(samples: int) -> Iterator[dict[str, Any]]:
    """AdamW with L1: most seeds solved, then fewest ge."""

    def run(setting: L1Setting, seed: int) -> dict[str, Any]:
        return adamw_l1(seed, samples, setting)

    def grid(_: Sequence[L1Setting]) -> list[L1Setting]:
        axes = product(("tanh", "relu"), (16, 64), (1e-2, 3e-2, 1e-1), (0.0, 3e-4, 1e-3, 3e-3))
        return [L1Setting(*point) for point in axes]

    def neighbours(best: Sequence[L1Setting]) -> list[L1Setting]:
        near = list(best)
        for one in best:
            near += [replace(one, lr=round(one.lr * factor, 6)) for factor in (0.6, 1.7)]
            near += [replace(one, l1=round(one.l1 * factor, 6)) for factor in (0.6, 1.7)]
            near += [replace(one, weight_decay=decay) for decay in (0.0, 0.3)]
            near += [replace(one, batch=size) for size in (30, 100)]
            near += [replace(one, hidden=256), replace(one, objective="squared")]
            near += [replace(one, activation="gelu"), replace(one, restart=400)]
        return near

    rounds = [
        Round(grid, run, TUNING_SEEDS[:3], keep=3),
        Round(neighbours, run, TUNING_SEEDS[:5], keep=2),
        Round(neighbours, run, TUNING_SEEDS, keep=1),
    ]
    return search(rounds, lambda row: (-row["solved"], row["ge"]))


def tune() -> Iterator[dict[str, Any]]:
    """The baseline at this number of samples."""
    return tuning_rows(SAMPLES)


CONTENDERS = contenders(SAMPLES, L1_SETTING)
