"""GPTQ: columns rounded one after another, the error of each spread over those still to come.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers" (2023). It is
Babai's nearest plane algorithm on the lattice of H (Chen et al., "The geometry of LLM quantization", 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.grid import Grid

__all__ = ["gptq", "gptq_on_best"]


def gptq(weight: Tensor, grid: Grid, factor: Factor, *, threads: int = 1) -> Tensor:
    """The codes ``(R, C)`` uint8 of ``weight`` rounded by GPTQ; the beam of width 1."""
    return beam(weight, grid, factor, width=1, threads=threads)


def gptq_on_best(
    weight: Tensor, grids: Sequence[Grid], factor: Factor, moment: Tensor, *, threads: int = 1
) -> tuple[Grid, Tensor]:
    """For each row the grid of several on which GPTQ's error :math:`(v - w)' H (v - w)` is least; its codes with it.

    What is best for nearest codes need not be: errors that are passed on ask for room at the ends of the range.
    """
    best, *others = ((grid, gptq(weight, grid, factor, threads=threads)) for grid in grids)
    for other in others:
        old, new = (_errors(weight, grid, codes, moment) for grid, codes in (best, other))
        better = new < old
        best = best[0].patched(other[0], better), torch.where(better[:, None], other[1], best[1])
    return best


def _errors(weight: Tensor, grid: Grid, codes: Tensor, moment: Tensor) -> Tensor:
    difference = grid.decode(codes).to(moment.dtype) - weight.to(moment.dtype)
    return ((difference @ moment) * difference).sum(1)
