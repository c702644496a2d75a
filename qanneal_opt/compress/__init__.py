"""Rounding a trained network's weights: layer by layer, as lattice problems."""

from qanneal_opt.compress.load import load_quantized
from qanneal_opt.compress.quantize import quantize
from qanneal_opt.compress.report import LayerRow, QuantizationReport

__all__ = ["LayerRow", "QuantizationReport", "load_quantized", "quantize"]
