"""Exact gradient and Hessian over a subset of weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from qanneal_opt.batches import Batch
from qanneal_opt.curvature.functional import Forward, chunk_size, mean_matrix, origin, pull
from qanneal_opt.objective import Objective
from qanneal_opt.subset import Subset


def gradient(objective: Objective, subset: Subset) -> Tensor:
    """Gradient of the mean loss with respect to the weights of ``subset``: ``(n,)`` of ``subset.dtype``."""
    return subset.gather(objective.gradient(subset.params)[1])


def hessian(objective: Objective, subset: Subset, *, chunk: int | None = None) -> Tensor:
    r"""Exact Hessian of the mean loss over the weights of ``subset``.

    .. math:: H_{kl} = \frac{\partial^2 f}{\partial w_k\, \partial w_l}

    Forward over reverse: ``chunk`` directions at a time go through the gradient. Indefinite in general.
    Memory is O(n^2) and the activations of one batch for ``chunk`` directions.

    Args:
        objective: model, loss and data.
        subset: n weights of parameters of the model.
        chunk: directions at a time; by default as many as fit in 64 MB of tangents, up to 64.

    Returns:
        ``(n, n)`` of ``subset.dtype``, symmetric.

    Raises:
        ValueError: on a subset outside the model, a bad chunk, or a matrix that is not finite.

    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> inputs, targets = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0]])
    >>> objective = Objective(model, torch.nn.functional.mse_loss, (inputs, targets))
    >>> hessian(objective, Subset.by_row(model.weight, 0))  # 2 x x'
    tensor([[2., 4.],
            [4., 8.]])
    """
    zero, size = origin(subset), chunk_size(subset, chunk)
    directions = torch.eye(len(subset), dtype=zero.dtype, device=zero.device)

    def fast(forward: Forward, batch: Batch) -> Tensor:
        def loss(d: Tensor) -> Tensor:
            return objective.batch_loss(forward(d), batch)

        def row(e: Tensor) -> Tensor:
            product: Tensor = jvp(grad(loss), (zero,), (e,))[1]
            return product

        return torch.cat([vmap(row)(part) for part in torch.split(directions, size)])

    def slow(forward: Forward, batch: Batch) -> Tensor:
        d = zero.clone().requires_grad_()
        slope = pull(objective.batch_loss(forward(d), batch), d, None)  # (n,)
        return torch.stack([pull(slope, d, e) for e in directions])

    return mean_matrix(objective, subset, "Hessian", fast, slow)
