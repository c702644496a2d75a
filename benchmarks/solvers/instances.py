"""QUBOs to race on, each the same on every machine: published generators, random graphs, real training steps.

Energies are minus the value that the literature maximises, and whole numbers all of them, so that two solvers that
found the same state agree to the last digit. Beasley's own generator (OR-Library's bqp files) was not found; the
instances of its kind, 10% of entries between -100 and 100, come from Palubeckis' generator with seeds of ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from qanneal_opt.qubo import Qubo

MODULUS, MULTIPLIER = 2**31 - 1, 16807
WARMUP = 500  # straight-through steps before a QUBO is captured


@dataclass(frozen=True, eq=False)
class Instance:
    """A QUBO, and the lowest energy that is published for it (`None`: nothing is)."""

    name: str
    qubo: Qubo
    published: float | None = None

    @cached_property
    def bqm(self) -> Any:
        """What solvers built on dimod take; making it is no part of any solver's time."""
        return self.qubo.to_bqm()

    @cached_property
    def patience(self) -> float:
        """How much longer than others it is raced: 1, and above half a million couplings in proportion."""
        return max(1.0, int(torch.count_nonzero(self.qubo.quadratic)) / 1e6)  # counts each coupling twice


def palubeckis(n: int, density: float, seed: int, bound: int = 100) -> Qubo:
    """Maximise x'Cx (Palubeckis 2004): `density` percent of couplings, all entries from -bound to bound.

    Row by row, the diagonal first; then for each j > i one draw says whether there is an entry, another what it is.
    """
    matrix, state = np.zeros((n, n)), seed

    def entry() -> int:
        return int(state / (MODULUS + 1) * (2 * bound + 1)) - bound

    for i in range(n):
        state = MULTIPLIER * state % MODULUS
        matrix[i, i] = entry()
        for j in range(i + 1, n):
            state = MULTIPLIER * state % MODULUS
            if state / (MODULUS + 1) * 100 <= density:
                state = MULTIPLIER * state % MODULUS
                matrix[i, j] = matrix[j, i] = entry()
    return Qubo.from_matrix(-matrix)


def max_cut(n: int, density: float, seed: int) -> Qubo:
    """Maximum cut of a random graph of round(density n (n - 1) / 2) edges of weight one; the energy is -cut."""
    rows, columns = np.triu_indices(n, 1)
    edges = np.random.default_rng(seed).choice(len(rows), round(density * len(rows)), replace=False)
    adjacency = np.zeros((n, n))
    adjacency[rows[edges], columns[edges]] = 1
    adjacency += adjacency.T
    return Qubo(-adjacency.sum(1), 2 * adjacency)


class Recorder:
    """A sampler that keeps the QUBO it was asked about last and lets the annealer answer."""

    name = "recorder"
    draws_at_temperature = True

    def __init__(self) -> None:
        from qanneal_opt.samplers import Annealer

        self.annealer, self.last = Annealer(threads=1), Qubo([], [])

    def sample_arrays(self, qubo: Qubo, **options: Any) -> Any:
        self.last = qubo
        return self.annealer.sample_arrays(qubo, **options)


def captured(variables: int, seed: int, steps: int = 20) -> Qubo:
    """The last QUBO of `steps` annealing steps on digits (64-6-10, binary weights) after straight-through training.

    In units of 1e-5 of its largest entry, rounded. The training draws from it at a temperature; the race minimises it.
    """
    import qanneal_opt as qa
    from qanneal_opt.demo.alternation import network
    from qanneal_opt.demo.data import digits

    recorder, split = Recorder(), digits(seed)
    inputs, targets = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network([inputs.shape[1], 6, split.classes])
        order = torch.randint(len(inputs), (WARMUP, 128))
    optimizer = qa.AnnealingOptimizer(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "encoding": qa.Levels.binary()},
            {"params": [p for p in model.parameters() if p.ndim == 1]},
        ],
        weight_decay=0.0,
        objective=qa.Objective(model, functional.cross_entropy, (inputs, targets)),
        annealing=qa.QuboStep(recorder, proposals=variables, variables=variables),
        schedule=qa.Every(1, start=WARMUP - 1, stop=WARMUP + steps - 1),
        seed=seed,
    )
    for k in range(WARMUP + steps - 1):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - k / WARMUP) if k < WARMUP else 5e-3
        optimizer.zero_grad()
        if k < WARMUP:
            functional.cross_entropy(model(inputs[order[k]]), targets[order[k]]).backward()
        optimizer.step()
    qubo = recorder.last if recorder.last.batch is None else recorder.last.problem(0)
    unit = 1e-5 * float(max(qubo.linear.abs().max(), qubo.quadratic.abs().max()))
    return Qubo(torch.round(qubo.linear / unit), 2 * torch.round(qubo.quadratic / unit / 2))


def instance(name: str) -> Instance:
    """Make the instance of that name."""
    make, published = INSTANCES[name]
    return Instance(name, make(), published)


# Seeds of ours are 1000 n + density in percent for the generated ones; p3000.1 is that of the literature.
INSTANCES: dict[str, tuple[Callable[[], Qubo], float | None]] = {
    "train32": (lambda: captured(32, 1000), None),
    "train96": (lambda: captured(96, 1000), None),
    "b250": (lambda: palubeckis(250, 10, 250_010), None),
    "b500": (lambda: palubeckis(500, 10, 500_010), None),
    "b1000": (lambda: palubeckis(1000, 10, 1_000_010), None),
    "b2500": (lambda: palubeckis(2500, 10, 2_500_010), None),
    "p3000.1": (lambda: palubeckis(3000, 50, 31_000), -3_931_583.0),
    "cut800": (lambda: max_cut(800, 0.06, 800_006), None),
    "cut2000": (lambda: max_cut(2000, 0.01, 2_000_001), None),
}
QUICK = ("train32", "b250", "cut800")
