"""Annealing steps: one call of each is one annealing step."""

from qanneal_opt.steps.direct import DirectStep
from qanneal_opt.steps.qubo import QuboStep
from qanneal_opt.steps.rule import RuleStep

__all__ = ["DirectStep", "QuboStep", "RuleStep"]
