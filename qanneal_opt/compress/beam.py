"""K-best rounding: a beam over GPTQ's own triangular factor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.checks import check_int
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.threads import in_threads

__all__ = ["beam"]

_ROWS = 16  # prefixes worked on together


def beam(weight: Tensor, grid: Grid, factor: Factor, *, width: int = 16, threads: int = 1) -> Tensor:
    """Round each row column by column, the ``width`` cheapest beginnings kept; with one it is GPTQ.

    Args:
        weight: ``(R, C)``, copied to the CPU once.
        grid: what it is rounded to.
        factor: of the damped H, with the order of the columns.
        width: K.
        threads: rows run in so many; the result does not depend on it.

    Returns:
        The codes ``(R, C)`` uint8, on the device of ``weight``.
    """
    check_int("width", width, 1, 1024)
    from qanneal_opt.compress.kernels_beam import search

    order = factor.order.cpu()
    rows, scale, zero = (
        part.double().cpu()[:, order].contiguous().numpy() for part in (weight, *grid.spread(weight.shape[1]))
    )
    spread, price = factor.spread.cpu().numpy(), factor.price.cpu().numpy()
    ordered = torch.empty(weight.shape, dtype=torch.uint8)

    def run(low: int, high: int) -> None:
        target = np.empty((high - low, 2 * width, rows.shape[1]))
        search(rows, scale, zero, spread, price, grid.top, width, low, high, target, ordered.numpy())

    in_threads(run, len(rows), max(1, _ROWS // width), threads)
    codes = torch.empty_like(ordered)
    codes[:, order] = ordered
    return codes.to(weight.device)
