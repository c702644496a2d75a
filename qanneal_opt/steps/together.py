"""Several candidates judged in one pass over the data: their weights stand side by side in one batched forward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qanneal_opt.curvature.functional import chunk_size, differentiable, displaced
from qanneal_opt.moves import Moves
from qanneal_opt.objective import Objective
from qanneal_opt.subset import Subset

# Samples in a batch times encoded weights. Up to here a pass costs more in calls than in arithmetic, and candidates
# together are judged faster than one by one (a slow test holds that); beyond it activations fall out of the cache. Only
# a QuboStep of several reads at T > 0 has many: at T = 0 the distinct samples of a block are mostly one.
LARGEST = 1 << 19


def losses(objective: Objective, params: Sequence[Tensor], candidates: Sequence[Moves]) -> list[float] | None:
    """Give the objective after each candidate set of moves; the weights stay as they are.

    Args:
        objective: frozen by the caller.
        params: the parameters that ``Moves.owner`` counts.
        candidates: R sets of moves, each with one at least; a weight stands in a set at most once.

    Returns:
        R numbers, equal up to rounding to those of a pass each; None where passes one by one are faster, or
        where the model cannot be batched.
    """
    weights = sum(param.numel() for param in params)
    if len(candidates) < 2 or weights > LARGEST:
        return None
    subset, displacements = _side_by_side(params, candidates)  # (R, n)
    mean, total = torch.zeros(()), 0.0
    with torch.no_grad(), differentiable():
        for batch in objective.batches():
            if weights * batch.size > LARGEST:
                return None
            total += batch.size
            forward = displaced(objective, subset, batch)
            judge = torch.func.vmap(
                lambda d: objective.batch_loss(forward(d), batch),  # noqa: B023
                chunk_size=chunk_size(subset, None),
                randomness="same",
            )
            try:
                found = judge(displacements)  # (R,)
            except RuntimeError:  # what vmap cannot take, such as control flow that reads values
                return None
            mean = torch.lerp(mean.to(found), found, batch.size / total)
    values: list[float] = mean.tolist()
    return values


def _side_by_side(params: Sequence[Tensor], candidates: Sequence[Moves]) -> tuple[Subset, Tensor]:
    """The weights that any candidate changes, and each one's displacements of them, ``(R, n)``."""
    changes = torch.cat([torch.stack([moves.owner, moves.index]) for moves in candidates], 1)  # (2, c)
    which, place = changes.unique(dim=1, return_inverse=True)  # (2, n), (c,)
    subset = Subset(tuple(params), *which)
    sizes = torch.tensor([len(moves.index) for moves in candidates])
    row = torch.repeat_interleave(torch.arange(len(candidates)), sizes)
    displacements = torch.zeros(len(candidates), len(subset), dtype=subset.dtype)
    displacements[row, place] = torch.cat([moves.displacement for moves in candidates]).to(subset.dtype)
    return subset, displacements.to(params[0].device)
