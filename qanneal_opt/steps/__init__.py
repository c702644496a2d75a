"""Annealing steps: one call of each is one annealing step."""

from qanneal_opt.steps.direct import DirectStep
from qanneal_opt.steps.qubo import QuboStep

__all__ = ["DirectStep", "QuboStep"]
