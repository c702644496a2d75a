"""Optimal Brain Surgeon: weights dropped one by one, the others updated each time."""

from __future__ import annotations

import torch
from torch import Tensor

from qanneal_opt.compress.choice import Choice

_COMPACT = 64  # steps between two removals of dropped rows from the inverse


def by_obs(choice: Choice) -> Tensor:
    r"""Drop single weights in the order of Hassibi and Stork (1993): ``(n,)`` bool, True where kept.

    The weight q with the least :math:`w_q^2 / (2 [H^{-1}]_{qq})` goes, the others follow by
    :math:`w \leftarrow w - w_q [H^{-1}]_{\cdot q} / [H^{-1}]_{qq}`, and the inverse loses q's row and column:
    :math:`H^{-1} \leftarrow H^{-1} - [H^{-1}]_{\cdot q} [H^{-1}]_{q \cdot} / [H^{-1}]_{qq}`. Cells that have dropped
    all that they have to are left alone. As in the paper the network counts as trained: the gradient is not used.

    What the weights have become is ``choice.compensated`` of the mask with g = 0, as each update is a conditional
    minimum of the same quadratic form. O(n^2) for each weight dropped; H has to be positive definite.
    """
    keep, surplus = torch.ones(len(choice.w), dtype=torch.bool), choice.surplus.clone()
    alive = torch.arange(len(choice.w))
    inverse, w = torch.linalg.inv(choice.H), choice.w.clone()
    open_ = surplus[choice.cell] > 0
    for step in range(int(surplus.sum())):
        saliency = (w * w / inverse.diagonal()).masked_fill_(~open_[alive], torch.inf)
        q = int(saliency.argmin())
        column, pivot = inverse[:, q].clone(), float(inverse[q, q])
        w.add_(column, alpha=-float(w[q]) / pivot)
        inverse.addr_(column, column, alpha=-1 / pivot)
        inverse[q, q] = 1.0  # its row and column are zero from now on
        gone = int(alive[q])
        keep[gone] = open_[gone] = False
        cell = int(choice.cell[gone])
        surplus[cell] -= 1
        if not surplus[cell]:
            open_[choice.cell == cell] = False
        if step % _COMPACT == _COMPACT - 1:
            left = keep[alive].nonzero().flatten()
            alive, w, inverse = alive[left], w[left], inverse[left][:, left]
    return keep
