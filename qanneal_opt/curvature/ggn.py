"""The generalised Gauss-Newton matrix over a subset of weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp, vmap

from qanneal_opt.batches import Batch
from qanneal_opt.curvature.functional import Forward, chunk_size, mean_matrix, origin, pull
from qanneal_opt.objective import Objective
from qanneal_opt.subset import Subset


def ggn(objective: Objective, subset: Subset, *, chunk: int | None = None) -> Tensor:
    r"""Gauss-Newton matrix of the mean loss over the weights of ``subset``.

    .. math:: H = \sum_b \frac{N_b}{N} J_b^\top A_b J_b

    with :math:`J_b` the derivative of batch b's outputs with respect to the subset, ``(outputs, n)``, and
    :math:`A_b` the Hessian of the batch's mean loss with respect to its outputs. Positive semidefinite
    wherever the loss is convex in the outputs. ``chunk`` directions at a time go forward through the model
    (J e), through the loss (A J e) and back (J'A J e). Neither J nor A is formed: A's products are
    derivatives of the loss's gradient, so any twice differentiable loss will do.

    Memory is O(n^2) and the activations of one batch for ``chunk`` directions.

    Args:
        objective: model, loss and data; the model must return one tensor.
        subset: n weights of parameters of the model.
        chunk: directions at a time; by default as many as fit in 64 MB of tangents, up to 64.

    Returns:
        ``(n, n)`` of ``subset.dtype``, symmetric.

    Raises:
        TypeError: if the model returns anything but one tensor.
        ValueError: on a subset outside the model, a bad chunk, or a matrix that is not finite.

    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> inputs, targets = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0]])
    >>> objective = Objective(model, torch.nn.functional.mse_loss, (inputs, targets))
    >>> ggn(objective, Subset.by_row(model.weight, 0))  # 2 x x'
    tensor([[2., 4.],
            [4., 8.]])
    """
    zero, size = origin(subset), chunk_size(subset, chunk)
    directions = torch.eye(len(subset), dtype=zero.dtype, device=zero.device)

    def slope(outputs: Tensor, batch: Batch) -> Tensor:
        def loss(z: Tensor) -> Tensor:
            return objective.batch_loss(z, batch)

        gradient: Tensor = grad(loss)(outputs)
        return gradient

    def fast(forward: Forward, batch: Batch) -> Tensor:
        outputs, back = vjp(forward, zero)[:2]
        _one_tensor(outputs)

        def row(e: Tensor) -> Tensor:
            tangent = jvp(forward, (zero,), (e,))[1]
            bent = jvp(lambda z: slope(z, batch), (outputs,), (tangent,))[1]
            product: Tensor = back(bent)[0]
            return product

        return torch.cat([vmap(row)(part) for part in torch.split(directions, size)])

    def slow(forward: Forward, batch: Batch) -> Tensor:
        d = zero.clone().requires_grad_()
        outputs = _one_tensor(forward(d))
        fixed = outputs.detach().requires_grad_()
        gradient = pull(objective.batch_loss(fixed, batch), fixed, None)
        # J'v is linear in v, so its derivative with respect to v along e_k is J e_k, by reverse mode alone.
        v = torch.zeros_like(outputs).requires_grad_()
        pullback = pull(outputs, d, v)  # (n,)
        bent = (pull(gradient, fixed, pull(pullback, v, e)) for e in directions)
        return torch.stack([pull(outputs, d, Au) for Au in bent])

    return mean_matrix(objective, subset, "GGN", fast, slow)


def _one_tensor(outputs: object) -> Tensor:
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise TypeError(f"Invalid outputs: {kind}; must be one tensor for the GGN (not for the Hessian)")
    return outputs
