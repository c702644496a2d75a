"""Uniform sweeps over all weights of a stack, in one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanneal_opt.steps.stack_data import numbers

if TYPE_CHECKING:
    from qanneal_opt.steps.stack import Stack


@dataclass(frozen=True, eq=False)
class Swept:
    """What uniform sweeps did.

    Attributes:
        codes: for each owner its codes after the last sweep, shaped and typed as given.
        best_codes: the codes at a sweep's end, or at the start, that had the least objective.
        value: objective at ``codes``.
        best_value: objective at ``best_codes``.
        proposed: moves evaluated.
        accepted: moves made.
    """

    codes: list[Tensor]
    best_codes: list[Tensor]
    value: float
    best_value: float
    proposed: int
    accepted: int


def sweep(
    stack: Stack,
    codes: Sequence[Tensor],
    levels: Sequence[Tensor],
    scales: Sequence[Tensor],
    owners: Sequence[Tensor],
    temperatures: Tensor,
    seed: int,
) -> Swept:
    """Do as :meth:`Stack.sweep` says."""
    from qanneal_opt.steps.kernels_moves import sweep as compiled

    kinds = np.array([len(level) for level in levels], np.int64)
    table = np.zeros((len(owners), max(kinds)), np.float32)
    parts = []
    for k, owner in enumerate(owners):
        table[k, : kinds[k]] = numbers(levels[k].float())
        code, scale = numbers(codes[k].long()).reshape(-1), numbers(scales[k].float()).reshape(-1)
        count = owner.numel()
        if len(code) != count or count % len(scale) or not 0 <= code.min() <= code.max() < kinds[k]:
            raise ValueError(f"Invalid codes: owner {k} has {count} weights and {kinds[k]} levels")
        slot = np.full(count, stack.slot[id(owner)])
        wide = np.repeat(scale, count // len(scale))
        parts.append((np.full(count, k), slot, np.arange(count), code, wide))
    group, slot, index, flat, wide = (np.concatenate(part) for part in zip(*parts))
    value = table[group, flat] * wide
    changes = stack.changes(slot, index, value)
    if not np.array_equal(stack.net.theta[changes["place"]], value):
        raise ValueError("Invalid codes: the weights that the stack holds are not levels[codes] * scale")
    best, heat, start = flat.copy(), numbers(temperatures.double()), np.uint64(seed % 2**64)
    stack.value, best_value, proposed, accepted = compiled(
        stack.net.address, changes.ctypes.data, group, wide, table, kinds, flat, best,
        heat, start, stack.value,
    )  # fmt: skip

    def shaped(values: NDArray[np.int64]) -> list[Tensor]:
        split = torch.from_numpy(values).split([code.numel() for code in codes])
        return [part.view(code.shape).to(code.dtype) for part, code in zip(split, codes)]

    return Swept(shaped(flat), shaped(best), stack.value, best_value, proposed, accepted)
