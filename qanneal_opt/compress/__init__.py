"""Compression of a trained network on the same parts: rounding its weights, and choosing which of them to keep."""

from qanneal_opt.compress.load import load_quantized
from qanneal_opt.compress.prune import prune
from qanneal_opt.compress.prune_report import PruneReport
from qanneal_opt.compress.quantize import quantize
from qanneal_opt.compress.report import LayerRow, QuantizationReport

__all__ = ["LayerRow", "PruneReport", "QuantizationReport", "load_quantized", "prune", "quantize"]
