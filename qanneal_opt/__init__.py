"""A PyTorch optimizer that alternates gradient steps with annealing steps on discrete weights."""

from qanneal_opt import losses, samplers
from qanneal_opt.compress import PruneReport, QuantizationReport, load_quantized, prune, quantize
from qanneal_opt.encoding import Levels, Mask, Window
from qanneal_opt.nn import AutomatonLayer, RuleLayer
from qanneal_opt.objective import Objective
from qanneal_opt.optimizer import AnnealingOptimizer
from qanneal_opt.quadratic import Affine, QuadraticModel
from qanneal_opt.qubo import Qubo
from qanneal_opt.schedule import Every, OnPlateau
from qanneal_opt.steps import DirectStep, QuboStep, RuleStep
from qanneal_opt.telemetry import AnnealRecord

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "AnnealRecord",
    "AnnealingOptimizer",
    "AutomatonLayer",
    "DirectStep",
    "Every",
    "Levels",
    "Mask",
    "Objective",
    "OnPlateau",
    "PruneReport",
    "QuadraticModel",
    "QuantizationReport",
    "Qubo",
    "QuboStep",
    "RuleLayer",
    "RuleStep",
    "Window",
    "load_quantized",
    "losses",
    "prune",
    "quantize",
    "samplers",
]
