"""Rounding a trained network's weights: layer by layer, as lattice problems."""

from qanneal_opt.compress.quantize import quantize
from qanneal_opt.compress.report import QuantizationReport

__all__ = ["QuantizationReport", "quantize"]
