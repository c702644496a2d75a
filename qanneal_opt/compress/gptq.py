"""GPTQ: columns rounded one after another, the error of each spread over those still to come.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers" (2023). It is
Babai's nearest plane algorithm on the lattice of H (Chen et al., "The geometry of LLM quantization", 2025).
"""

from __future__ import annotations

from torch import Tensor

from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.grid import Grid

__all__ = ["gptq"]


def gptq(weight: Tensor, grid: Grid, factor: Factor, *, threads: int = 1) -> Tensor:
    """The codes ``(R, C)`` uint8 of ``weight`` rounded by GPTQ; the beam of width 1."""
    return beam(weight, grid, factor, width=1, threads=threads)
