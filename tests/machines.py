"""Machines that misbehave, around the mock one: a fault for each submission, in turn."""

import threading

import numpy as np
import torch

import qanneal_opt as qa
from qanneal_opt.demo.mock_machine import MockMachine
from qanneal_opt.samplers import QPU

TOKEN = "DEV-0123456789abcdef-never-to-be-seen"


class HTTPError(OSError):
    """As the cloud client raises them: with a status, and here with a token in the text."""

    def __init__(self, status):
        super().__init__(f"{status} for https://cloud.example/sapi?token={TOKEN}")
        self.error_code = status


class SolverOfflineError(Exception):
    pass


class PollingTimeout(Exception):
    pass


class Faulty:
    """A mock machine that has a fault a submission: an exception to raise, or a function of its answer.

    `calls` counts submissions; `failovers` changes of the solver, each to a graph with other qubits missing.
    """

    def __init__(self, *faults, topology="zephyr", shape=(2,), always=None, **options):
        self._options = {"topology": topology, "shape": shape, **options}
        self._machine = MockMachine(**self._options)
        self.faults, self.always = list(faults), always
        self.calls, self.failovers, self.submitted = 0, 0, []

    def __getattr__(self, name):
        if name in ("trigger_failover", "solver"):
            raise AttributeError(name)
        return getattr(self._machine, name)

    def sample(self, bqm, **parameters):
        self.calls += 1
        self.submitted.append((bqm, parameters))
        fault = self.faults.pop(0) if self.faults else self.always
        if isinstance(fault, BaseException):
            raise fault
        answer = self._machine.sample(bqm, **parameters)
        answer.info["bqm"] = bqm
        return answer if fault is None else fault(answer)


class Switching(Faulty):
    """One with another solver behind it."""

    def trigger_failover(self):
        self.failovers += 1
        self._machine = MockMachine(**self._options | {"broken": (0, 5, 9)})


def hang(answer):
    threading.Event().wait(20)
    return answer


def empty(answer):
    return answer.truncate(0)


def fewer(answer):
    return answer.from_samples((answer.record.sample[:, 1:], list(answer.variables)[1:]), "SPIN", answer.record.energy)


def not_finite(answer):
    answer.record.energy[:] = np.nan
    return answer


def broken(answer):
    """The qubits at the ends of each coupler with the lowest value the other way round: all chains disagree."""
    bqm = answer.info["bqm"]
    chain = min(bqm.quadratic.values())
    spins = {}
    for u, v in (pair for pair, value in bqm.quadratic.items() if value == chain):
        spins[u] = spins.get(u, -spins.get(v, -1))
        spins[v] = spins.get(v, -spins[u])
    answer.record.sample[:] = [spins.get(qubit, 1) for qubit in answer.variables]
    return answer


def seat(machine, folder, **options):
    """Nothing to wait for."""
    quick = {"backoff": 0.0, "rest": 0.0, "reads": 20, "deadline": 60.0}
    return QPU(machine, cache=folder, **quick | options)


def network(sampler, *, calls=4, seed=0, **options):
    """A small binary network and its optimizer, which anneals at each step."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(40, 6, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long()
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    weights, biases = [model[0].weight, model[2].weight], [model[0].bias, model[2].bias]
    optimizer = qa.AnnealingOptimizer(
        [{"params": weights, "encoding": qa.Levels.binary()}, {"params": biases}],
        lr=1e-2,
        objective=qa.Objective(model, torch.nn.functional.cross_entropy, (x, y)),
        annealing=qa.QuboStep(sampler, **{"proposals": 8, "variables": 8, **options}),
        schedule=qa.Every(1, stop=calls),
    )

    def train(steps=calls):
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    return model, optimizer, train


def legal(model, optimizer):
    """Whether every binary weight is plus or minus the scale of its row, and finite."""
    for p in (model[0].weight, model[2].weight):
        codes, scale = optimizer.codes(p)
        levels = torch.tensor([-1.0, 1.0])
        if not (torch.isfinite(p).all() and torch.equal(p.detach(), levels[codes] * scale)):
            return False
    return True
