"""Compression of a trained network on the same parts: which weights to keep."""

from qanneal_opt.compress.prune import prune
from qanneal_opt.compress.prune_report import PruneReport

__all__ = ["PruneReport", "prune"]
