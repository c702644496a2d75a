"""GPTQ: columns rounded one after another, the error of each spread over those still to come.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers" (2023). It is
Babai's nearest plane algorithm on the lattice of H (Chen et al., "The geometry of LLM quantization", 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.threads import in_threads

__all__ = ["gptq", "gptq_on_best"]

_ROWS = 64  # worked on together


def gptq(weight: Tensor, grid: Grid, factor: Factor, *, threads: int = 1) -> tuple[Tensor, Tensor]:
    r"""Round each row column by column, in the order of the factor.

    Args:
        weight: ``(R, C)``, copied to the CPU.
        grid: what it is rounded to.
        factor: of the damped H, with the order of the columns.
        threads: rows run in so many; the result does not depend on it.

    Returns:
        The codes ``(R, C)`` uint8 and the errors :math:`(v - w)' (H + \lambda) (v - w)` of the rows, ``(R,)`` float64,
        on the device of ``weight``.
    """
    from qanneal_opt.compress.kernels_gptq import BLOCK, search

    rows, columns = weight.shape
    given, scale, zero, order, spread, price = (
        part.cpu().contiguous().numpy()
        for part in (
            weight.double(), grid.scale.double(), grid.zero.double(), factor.order, factor.spread, factor.price
        )
    )  # fmt: skip
    group = np.arange(columns) // grid.group_size
    codes, errors = torch.empty(rows, columns, dtype=torch.uint8), torch.empty(rows, dtype=torch.float64)

    def run(low: int, high: int) -> None:
        target, error = np.zeros((high - low, -(-columns // BLOCK) * BLOCK)), np.empty((high - low, BLOCK))
        search(
            given, scale, zero, group, order, spread, price, grid.top, low, high,
            target, error, np.zeros((BLOCK, BLOCK)), codes.numpy(), errors.numpy(),
        )  # fmt: skip

    in_threads(run, rows, _ROWS, threads)
    return codes.to(weight.device), errors.to(weight.device)


def gptq_on_best(
    weight: Tensor, grids: Sequence[Grid], factor: Factor, *, threads: int = 1
) -> tuple[Grid, Tensor, Tensor]:
    """For each row the grid of several on which GPTQ's error is least; the codes and errors with it.

    What is best for nearest codes need not be: errors that are passed on ask for room at the ends of the range.
    """
    best, *others = ((grid, *gptq(weight, grid, factor, threads=threads)) for grid in grids)
    for grid, codes, errors in others:
        better = errors < best[2]
        best = (
            best[0].patched(grid, better),
            torch.where(better[:, None], codes, best[1]),
            torch.where(better, errors, best[2]),
        )
    return best
