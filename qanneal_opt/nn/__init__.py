"""Modules whose discrete parts annealing finds."""

from qanneal_opt.nn.automaton import AutomatonLayer
from qanneal_opt.nn.rules import RuleLayer

__all__ = ["AutomatonLayer", "RuleLayer"]
