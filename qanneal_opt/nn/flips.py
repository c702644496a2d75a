"""Labels that may be flipped: what makes a probability of a decision."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SHARE = 0.05  # of labels, before gradients know better


class Flips(nn.Module):
    r"""In train mode :math:`\epsilon + (1 - 2 \epsilon) x`, the probability of a label 1 that is flipped now and then.

    The share :math:`\epsilon`, half a sigmoid of the logit ``flipped``, is trained by gradients, so that a decision
    that is 0 or 1 can meet a cross-entropy. In eval mode x is given back.
    """

    def __init__(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        logit = math.log(2 * SHARE / (1 - 2 * SHARE))
        self.flipped = nn.Parameter(torch.full((), logit, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Give the probability, in the dtype of the parameter."""
        x = x.to(self.flipped.dtype)
        if not self.training:
            return x
        share = self.flipped.sigmoid() / 2
        return share + (1 - 2 * share) * x
