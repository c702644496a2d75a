"""Units to keep by the size of their weights."""

from __future__ import annotations

import torch
from torch import Tensor

from qanneal_opt.compress.choice import Choice


def by_magnitude(choice: Choice) -> Tensor:
    """Keep of each cell the units of the largest norm, ties in their order: ``(m,)`` bool."""
    m = len(choice.cell)
    return best_of_cells(choice.w.new_zeros(m).index_add_(0, choice.unit, choice.w**2), choice)


def best_of_cells(worth: Tensor, choice: Choice) -> Tensor:
    """Keep of each cell the units of the largest ``worth``, ``(m,)``, as many as its quota: ``(m,)`` bool."""
    order = worth.argsort(descending=True, stable=True)
    order = order[choice.cell[order].argsort(stable=True)]  # cell by cell, the best first
    sizes = torch.bincount(choice.cell, minlength=len(choice.quota))
    rank = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[choice.cell[order]]
    keep = torch.zeros(len(order), dtype=torch.bool)
    keep[order] = rank < choice.quota[choice.cell[order]]
    return keep
