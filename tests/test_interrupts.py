"""Ctrl-C stops our samplers, whatever their kernel is at, in one thread and in several."""

import signal
import subprocess
import sys
import time

import pytest

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
