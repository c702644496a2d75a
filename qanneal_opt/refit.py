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
    exp_avg: Tensor
    exp_avg_sq: Tensor
    step: Tensor  # 0-d float32

    @staticmethod
    def like(tensor: Tensor) -> _Moments:
        zeros = torch.zeros_like(tensor, memory_format=torch.preserve_format)
        return _Moments(zeros, zeros.clone(), torch.zeros((), device=tensor.device))


class Adam:
    """Adam (Kingma and Ba, 2015; betas .9, .99) without hooks, over tensors that are no parameters of the user's.

    Moments belong to an owner, the parameter under whose state checkpoints keep them.
    """

    def __init__(self) -> None:
        self._moments: dict[Tensor, _Moments] = {}

    def update(self, owners: Sequence[Tensor], values: Sequence[Tensor], grads: Sequence[Tensor], lr: float) -> None:
        """Take one step in place on ``values``, each with its owner's moments."""
        if not values:
            return
        moments = []
        for owner, value in zip(owners, values, strict=True):
            if owner not in self._moments:
                self._moments[owner] = _Moments.like(value)
            moments.append(self._moments[owner])
        with torch.no_grad():
            adam(
                list(values),
                list(grads),
                [m.exp_avg for m in moments],
                [m.exp_avg_sq for m in moments],
                [],
                [m.step for m in moments],
                fused=all(value.device.type in ("cpu", "cuda") for value in values),
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=lr,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )

    def tensors(self, owner: Tensor, like: Tensor) -> dict[str, Tensor]:
        """Give an owner's moments, zeros of the shape of ``like`` where it has none yet."""
        m = self._moments.get(owner) or _Moments.like(like)
        return {"exp_avg": m.exp_avg, "exp_avg_sq": m.exp_avg_sq, "step": m.step}

    def load(self, owner: Tensor, tensors: dict[str, Tensor]) -> None:
        """Take an owner's moments."""
        device = owner.device
        self._moments[owner] = _Moments(
            tensors["exp_avg"].to(device, copy=True),
            tensors["exp_avg_sq"].to(device, copy=True),
            tensors["step"].to(device, copy=True),
        )
