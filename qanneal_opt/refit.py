"""Adam on tensors of our own: torch's functional one, with moments that checkpoints keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS = (0.9, 0.99)
LR = 5e-3


@dataclass(eq=False)
class _Moments:
    exp_avg: Tensor  # of the value's shape; at least float32, as is exp_avg_sq
    exp_avg_sq: Tensor
    step: Tensor  # 0-d float32

    @staticmethod
    def like(tensor: Tensor) -> _Moments:
        zeros = torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
        return _Moments(zeros, zeros.clone(), torch.zeros((), device=tensor.device))


class Adam:
    """Adam (Kingma and Ba, 2015; betas .9, .99) without hooks, over tensors that are no parameters of the user's.

    Moments belong to an owner, the parameter under whose state checkpoints keep them.
    """

    def __init__(self) -> None:
        self._moments: dict[Tensor, _Moments] = {}

    def update(self, owners: Sequence[Tensor], values: Sequence[Tensor], grads: Sequence[Tensor], lr: float) -> None:
        """Take one step in place on ``values``, each with its owner's moments; half precision steps in float32."""
        if not values:
            return
        for owner, value in zip(owners, values, strict=True):
            if owner not in self._moments:
                self._moments[owner] = _Moments.like(value)
        moments = [self._moments[owner] for owner in owners]
        wide = [value.to(m.exp_avg.dtype) for value, m in zip(values, moments, strict=True)]
        grads = [grad.to(m.exp_avg.dtype) for grad, m in zip(grads, moments, strict=True)]
        first, second = [m.exp_avg for m in moments], [m.exp_avg_sq for m in moments]
        # torch's fused kernel takes no notice of strides.
        dense = all(t.is_contiguous() and t.device.type in ("cpu", "cuda") for t in (*wide, *grads, *first, *second))
        with torch.no_grad():
            adam(
                wide,
                grads,
                first,
                second,
                [],
                [m.step for m in moments],
                fused=dense,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=lr,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
            for value, stepped in zip(values, wide, strict=True):
                if stepped is not value:
                    value.copy_(stepped)

    def moments(self, owner: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give an owner's first and second moments and its number of steps, to be changed in place."""
        m = self._moments.setdefault(owner, _Moments.like(like.detach()))
        return m.exp_avg, m.exp_avg_sq, m.step

    def tensors(self, owner: Tensor, like: Tensor) -> dict[str, Tensor]:
        """Give an owner's moments, zeros of the shape of ``like`` where it has none yet."""
        m = self._moments.get(owner) or _Moments.like(like)
        return {"exp_avg": m.exp_avg, "exp_avg_sq": m.exp_avg_sq, "step": m.step}

    def load(self, owner: Tensor, tensors: dict[str, Tensor]) -> None:
        """Take copies of an owner's moments."""
        self._moments[owner] = _Moments(**{k: t.to(owner.device, copy=True) for k, t in tensors.items()})
