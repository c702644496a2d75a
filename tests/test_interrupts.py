"""Ctrl-C stops our samplers, whatever their kernel is at, and steps of rules between two chains, in any threads."""

import copy
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import qanneal_opt as qa
from qanneal_opt.steps import kernels_automaton, kernels_rules

SETUP = """
import signal, sys, time, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer, Tabu

def problem(n):
    q = torch.randn(n, n, dtype=torch.float64)
    return Qubo(torch.randn(n), (q + q.T).fill_diagonal_(0), word=3)

def flips(qubo):
    return Qubo(qubo.linear, qubo.quadratic)

kinds, n = sys.argv[1].split(","), int(sys.argv[2])
one, two = Annealer(threads=1), Annealer(threads=2)
calls = {
    "one thread": lambda q, **kw: one.sample_arrays(flips(q), **kw),
    "two threads": lambda q, **kw: two.sample_arrays(flips(q), **kw),
    "draws": lambda q, **kw: one.sample_arrays(flips(q), temperature=1e6, **kw),
    "swaps": lambda q, **kw: one.sample_arrays(q, cardinality=q.n // 2, **kw),
    "words": lambda q, **kw: one.sample_arrays(q, **kw),
    "tabu": lambda q, num_sweeps, **kw: Tabu(moves=num_sweeps, patience=10**9).sample_arrays(q, **kw),
}
big = problem(n)
for call in [calls[kind] for kind in kinds]:
    call(problem(6), num_sweeps=2)
    for _ in range(int(sys.argv[3])):
        try:
            print("ready", flush=True)
            call(big, num_reads=100, num_sweeps=10**6)
        except KeyboardInterrupt:
            print(time.monotonic(), flush=True)
"""
KINDS = ["one thread", "two threads", "draws", "swaps", "words", "tabu"]


def seconds_to_stop(kinds, n, delays):
    """From each signal to what is raised; one process is interrupted after so many seconds, kind after kind."""
    command = [sys.executable, "-c", SETUP, ",".join(kinds), str(n), str(len(delays))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        seconds = []
        for delay in delays * len(kinds):
            assert child.stdout.readline().strip() == b"ready"
            time.sleep(delay)
            sent = time.monotonic()  # of the machine, the same in all its processes
            child.send_signal(signal.SIGINT)
            seconds.append(float(child.stdout.readline()) - sent)
    return seconds


def test_an_interrupt_stops_it():
    seconds = seconds_to_stop(["one thread", "two threads", "tabu"], 510, [0.3])
    assert len(seconds) == 3 and max(seconds) < 5  # a wide margin beside other tests


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [60, 3000])
def test_an_interrupt_stops_it_within_a_second(kind, n):
    assert max(seconds_to_stop([kind], n, [0.1, 0.5, 1.0, 2.0])) < 1


def rules_of(readout, step):
    x = torch.randint(2, (200, 12), generator=torch.Generator().manual_seed(0)).float()
    layer, y = qa.RuleLayer(12, 4, readout=readout), torch.maximum(x[:, 3] * x[:, 7], x[:, 1])
    layer.literals[0, :3] = 1
    objective = qa.Objective(layer, torch.nn.functional.mse_loss, (x, y if readout == "or" else y[:, None]))
    return qa.AnnealingOptimizer(layer.parameters(), objective=objective, annealing=step)


def automaton_of(step):
    x, y = torch.randint(2, (200, 9), generator=torch.Generator().manual_seed(0)).split([8, 1], 1)
    layer, y = qa.AutomatonLayer(2, 4), y[:, 0].float()  # at random: no chain ends early
    layer.table[0, 1], layer.outputs[1] = 1, True
    objective = qa.Objective(layer, torch.nn.functional.mse_loss, (x, y))
    return qa.AnnealingOptimizer(layer.parameters(), objective=objective, annealing=step)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("make", "kernels"),
    [
        (lambda step: rules_of("or", step), kernels_rules),
        (lambda step: rules_of("linear", step), kernels_rules),
        (automaton_of, kernels_automaton),
    ],
)
def test_an_interrupt_ends_a_step_of_rules_with_nothing_half_written(make, kernels, threads, monkeypatch):
    optimizer = make(qa.RuleStep(restarts=20, moves=200_000, threads=threads))
    model = optimizer.objective.model
    before, chain, chains = copy.deepcopy(model.state_dict()), kernels.anneal, []

    def interrupted(*arguments):
        chains.append(None)
        if len(chains) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return chain(*arguments)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(kernels, "anneal", interrupted)
            optimizer.anneal()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert 3 <= len(chains) <= 3 + 2 * threads  # those under way end, no other begins
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    assert model.training and not model._forward_hooks and not optimizer.records
    assert optimizer.anneal().moved > 0
