"""The digits task through one QUBO sampler, a quantum annealer say, in the form that the demo has it."""

from __future__ import annotations

import time
from typing import Any

import qanneal_opt as qa
from qanneal_opt.demo import alternation
from qanneal_opt.demo.contenders import QUBO, QUBO_HEAT
from qanneal_opt.demo.data import digits

__all__ = ["seat", "train"]


def seat(name: str, *, mock: bool, qpu_budget: float) -> Any:
    """The sampler of this name; a quantum annealer that is real gets a budget."""
    if name != "qpu":
        return qa.samplers.resolve(name)
    qa.samplers.resolve(name)  # tells what is not installed
    if not mock:
        return qa.samplers.QPU(qpu_budget=qpu_budget)
    from qanneal_opt.demo.mock_machine import MockMachine

    return qa.samplers.QPU(MockMachine())


def train(sampler: Any, seed: int) -> dict[str, Any]:
    """Train a 64-6-10 network with binary weights by :class:`QuboStep`; plain data."""
    cpu = time.process_time()
    net = alternation.train(digits(seed), (6,), qa.QuboStep(sampler, temperature=QUBO_HEAT), QUBO, seed)
    return {
        "seed": seed,
        "loss": net.loss,
        "metric": net.accuracy,
        "ge": net.gradients,
        "cpu_s": time.process_time() - cpu,
        "summary": net.summary,
    }
