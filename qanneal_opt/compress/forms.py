"""Quadratic forms of the rows of a matrix, each product of two columns taken once: H is symmetric."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 192  # columns multiplied at a time


def quadratic(rows: Tensor, H: Tensor) -> Tensor:
    """The form x' H x of each row x, ``(R,)``.

    Args:
        rows: ``(R, C)``.
        H: ``(C, C)``, symmetric, of the same dtype.

    >>> quadratic(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [1.0, 0.0]]))
    tensor([7.])
    """
    return by_groups(rows, H, len(H))[:, 0, 0]


def by_groups(rows: Tensor, H: Tensor, size: int) -> Tensor:
    """The forms ``(R, G, G)`` of pairs of groups: the sums of x_c H_cd x_d over c in the one and d in the other.

    Args:
        rows: ``(R, C)``.
        H: ``(C, C)``, symmetric, of the same dtype.
        size: columns a group.
    """
    columns = len(H)
    groups = -(-columns // size)
    once, later = rows.new_zeros(2, len(rows), groups, groups)
    for g in range(groups):
        end = min((g + 1) * size, columns)
        for low in range(g * size, end, _BLOCK):
            high = min(low + _BLOCK, end)
            products = (rows[:, low:high] @ H[low:high, low:]).mul_(rows[:, low:])
            once[:, g, g] += products[:, : high - low].sum(1)
            later[:, g, g] += products[:, high - low : end - low].sum(1)
            if g + 1 < groups:
                later[:, g, g + 1 :] += group_sums(products[:, end - low :], size)
    both: Tensor = once + later + later.mT
    return both


def group_sums(rows: Tensor, size: int) -> Tensor:
    """Sums ``(..., G)`` of rows ``(..., C)`` over groups of so many columns, the last one maybe of fewer."""
    missing = -rows.shape[-1] % size
    whole = torch.nn.functional.pad(rows, (0, missing)) if missing else rows  # which would copy it all the same
    return whole.reshape(*rows.shape[:-1], -1, size).sum(-1)
