"""A hidden automaton of 8 states over 2 symbols, from labelled strings: the problem and the contenders.

Training strings have 1 to 15 symbols, the 2000 test strings 16 to 32. The automaton is random, all of its states can be
reached and no two of them are equivalent.

loss: share of training labels that are wrong; metric: accuracy on the test strings; solved: at least 0.99; ge: passes
over all training strings.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

import qanneal_opt as qa
from benchmarks import edsm
from benchmarks.tuning import Round, search

ENOUGH, TESTS, STATES, MOST = 0.99, 2000, 8, 10
TUNING_SEEDS = range(1000, 1010)
GRADIENT_SECONDS = 4.0
OPTIONS = {"restarts": 5, "moves": 50_000, "temperature": (3.0, 0.5)}


@dataclass(frozen=True)
class Gru:
    """Of a GRU and its training."""

    hidden: int
    lr: float
    decay: float


Problem = tuple[Tensor, Tensor, Tensor, Tensor]  # strings (N, L) padded with -1 and labels (N,), for training and test


def automaton(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Table (8, 2) and outputs (8,) of a random minimal automaton."""
    while True:
        table, outputs = rng.integers(0, STATES, (STATES, 2)), rng.integers(0, 2, STATES)
        reached, kinds = {0}, outputs
        for _ in range(STATES):
            reached |= {int(q) for p in reached for q in table[p]}
            # States are told apart by their kind and by the kinds that they lead to (Moore, 1956).
            kinds = np.unique(np.column_stack([kinds, kinds[table]]), axis=0, return_inverse=True)[1]
        if len(reached) == STATES == len(set(kinds.tolist())):
            return table, outputs


def machine(table: np.ndarray, outputs: np.ndarray) -> qa.AutomatonLayer:
    """What reads strings by a table (Q, 2) and outputs (Q,)."""
    layer = qa.AutomatonLayer(2, len(table)).eval()
    layer.table.copy_(torch.from_numpy(table))
    layer.outputs.copy_(torch.from_numpy(outputs))
    return layer


def strings(rng: np.random.Generator, count: int, least: int, most: int) -> np.ndarray:
    """Strings (count, most) of `least` to `most` symbols, padded with -1."""
    x = rng.integers(0, 2, (count, most))
    x[np.arange(most) >= rng.integers(least, most + 1, count)[:, None]] = -1
    return x


def problem(seed: int, samples: int, flipped: float) -> Problem:
    """Training strings, of which a share has a flipped label, and clean test strings."""
    rng = np.random.default_rng(seed)
    layer = machine(*automaton(rng))
    x = torch.from_numpy(strings(rng, samples, 1, 15))
    test = torch.from_numpy(strings(rng, TESTS, 16, 32))
    flips = torch.from_numpy(rng.random(samples) < flipped).float()
    return x, (layer(x) - flips).abs().detach(), test, layer(test).detach()


def measured(task: Problem, predict: Callable[[Tensor], Tensor], ge: float) -> dict[str, Any]:
    """What a contender returns."""
    x, y, test, wanted = task
    with torch.no_grad():
        loss, metric = float((predict(x) != y).float().mean()), float((predict(test) == wanted).float().mean())
    return {"solved": metric >= ENOUGH, "loss": loss, "metric": metric, "ge": ge}


def anneal(seed: int, samples: int, flipped: float, **options: Any) -> dict[str, Any]:
    """Our layer with 10 states at most, annealed once."""
    task = problem(seed, samples, flipped)
    layer = qa.AutomatonLayer(2, MOST)
    optimizer = qa.AnnealingOptimizer(
        layer.parameters(),
        objective=qa.Objective(layer, mse_loss, task[:2]),
        annealing=qa.RuleStep(**{**OPTIONS, **options}),
        seed=seed,
    )
    record = optimizer.anneal()
    return {**measured(task, layer.eval(), record.candidates / 3), "states": len(layer.rules())}


class Reader(nn.Module):
    """A GRU over one-hot symbols; its state after the last symbol gives the logit."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(2, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(torch.nn.functional.one_hot(x.clamp(min=0), 2).float())  # (N, L, hidden)
        last = (x >= 0).sum(1) - 1
        logits: Tensor = self.head(states[torch.arange(len(x)), last])[:, 0]
        return logits


def gru(task: Problem, seed: int, setting: Gru, seconds: float = GRADIENT_SECONDS) -> dict[str, Any]:
    """AdamW, stopped as soon as its *test* accuracy, looked at every 25 passes, suffices."""
    x, y = task[:2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Reader(setting.hidden)
    base = torch.optim.AdamW(model.parameters(), lr=setting.lr, weight_decay=setting.decay, fused=True)
    generator, begun, passes = torch.Generator().manual_seed(seed), time.process_time(), 0
    while time.process_time() - begun < seconds:
        for part in torch.randperm(len(x), generator=generator).split(100):
            base.zero_grad()
            binary_cross_entropy_with_logits(model(x[part]), y[part]).backward()
            base.step()
        passes += 1
        if passes % 25 == 0 and measured(task, lambda z: (model(z) > 0).float(), 0.0)["solved"]:
            break
    return measured(task, lambda z: (model(z) > 0).float(), float(passes))


def merging(task: Problem, setting: edsm.Setting) -> dict[str, Any]:
    """Evidence-driven state merging."""
    table, outputs = edsm.learn(task[0].numpy(), task[1].numpy(), setting)
    return {**measured(task, machine(table, outputs), 1.0), "states": len(table)}


def contenders(
    samples: int, flipped: float, net: Gru, merge: edsm.Setting
) -> dict[str, Callable[[int], dict[str, Any]]]:
    """All contenders at a number of strings."""
    return {
        "ours": lambda seed: anneal(seed, samples, flipped),
        "ours_t0": lambda seed: anneal(seed, samples, flipped, temperature=0.0),
        "gru": lambda seed: gru(problem(seed, samples, flipped), seed, net),
        "edsm": lambda seed: merging(problem(seed, samples, flipped), merge),
    }


def tuning(samples: int, flipped: float) -> Iterator[dict[str, Any]]:
    """Both controls: most seeds solved, then the best metric."""

    def reader(seconds: float) -> Callable[[Gru, int], dict[str, Any]]:
        return lambda setting, seed: gru(problem(seed, samples, flipped), seed, setting, seconds)

    def merge(setting: edsm.Setting, seed: int) -> dict[str, Any]:
        return merging(problem(seed, samples, flipped), setting)

    nets = [Gru(*point) for point in product((32, 64), (3e-3, 1e-2), (0.0, 0.1, 1.0))]
    halves = [Round(lambda _: nets, reader(GRADIENT_SECONDS / 2), TUNING_SEEDS[:2], keep=3)]
    halves += [Round(list, reader(GRADIENT_SECONDS), TUNING_SEEDS[2:6], keep=1)]
    ladders = [(0.01, 0.02, 0.03, 0.05, 0.07, 0.1), (0.03,), (0.1,)] if flipped else [(0.0,), (1e-3,), (0.01,)]
    merges = [edsm.Setting(*point) for point in product(ladders, (-6.0, -3.0, -1.0, 0.0, 0.3))]
    for name, rounds in (("gru", halves), ("edsm", [Round(lambda _: merges, merge, TUNING_SEEDS, keep=1)])):
        for row in search(rounds, lambda row: (-row["solved"], -row["metric"])):
            yield {"contender": name, **row}
