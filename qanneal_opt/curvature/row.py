"""The exact quadratic model of one neuron's incoming row, with its statistical noise cut off."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qanneal_opt.batches import Batch
from qanneal_opt.curvature.functional import differentiable, pull
from qanneal_opt.objective import Objective
from qanneal_opt.quadratic import QuadraticModel


def row_model(objective: Objective, layer: nn.Linear, unit: int, *, threshold: float = 3.0) -> QuadraticModel:
    r"""Gradient and exact Hessian over the weights that come into one unit, soft-thresholded by their noise.

    With :math:`z_s = w \cdot x_s` the unit's input at sample s and :math:`\ell_s` the sample's loss as a
    function of it (through everything above the unit),

    .. math:: g = \frac1N \sum_s \ell_s' x_s, \qquad H = \frac1N \sum_s \ell_s'' x_s x_s^\top

    so that one second derivative a sample gives the whole matrix. The cost: one Hessian-vector product with
    respect to z (its gradient comes on the way; together 2 ge, a ge being a forward and backward pass), and
    2 N n (n + 1) multiplications for g, H and their errors, instead of n such products (2 n ge).

    Each entry is a mean over samples and has a standard error; an entry m becomes
    ``sign(m) max(0, |m| - threshold * error)``, which leaves what the data can tell from noise.

    Args:
        objective: model, loss and data; the loss is a mean over samples, which the model treats one by one.
        layer: a ``Linear`` of the model that is called once a forward pass, on an input of shape ``(N, n)``.
        unit: which of its outputs.
        threshold: in standard errors; 0.0 gives the plain model.

    Returns:
        The model over the n weights ``layer.weight[unit]``, float64 as every ``QuadraticModel``.

    Raises:
        ValueError: on a layer that is not the model's or is not called as said, a unit outside it, a bad
            threshold, or curvature that is not finite.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> inputs, targets = torch.tensor([[1.0, 2.0], [1.0, -2.0]]), torch.zeros(2, 1)
    >>> objective = Objective(model, torch.nn.functional.mse_loss, (inputs, targets))
    >>> row_model(objective, model, 0).H  # the samples agree on the diagonal, and on nothing else
    tensor([[2., 0.],
            [0., 8.]], dtype=torch.float64)
    """
    if not isinstance(threshold, (int, float)) or not 0 <= threshold < float("inf"):
        raise ValueError(f"Invalid threshold: {threshold}; a finite non-negative number is needed")
    if layer not in objective.model.modules():
        raise ValueError(f"Invalid layer: {layer}; must be a Linear of the model")
    if not 0 <= unit < layer.out_features:
        raise ValueError(f"Invalid unit: {unit}; must be in 0 .. {layer.out_features - 1}")
    n, count, total = layer.in_features, 0, 0.0
    blank = torch.zeros(n, n, dtype=torch.float64, device=layer.weight.device)
    g, g2, H, H2 = blank[0].clone(), blank[0].clone(), blank.clone(), blank.clone()  # sums, and of squares
    with objective.frozen():
        for batch in objective.batches():
            x, slope, bend = _sample_derivatives(objective, layer, unit, batch)  # (N, n), (N,), (N,)
            total += batch.size
            count += len(x)
            slope, bend = slope * batch.size, bend * batch.size
            x2 = x * x
            g += slope @ x
            g2 += slope**2 @ x2
            H += (x.T * bend) @ x
            H2 += (x2.T * bend**2) @ x2
    for name, value in (("gradient", g), ("Hessian", H)):
        if not bool(value.isfinite().all()):
            raise ValueError(f"Invalid {name}: not finite over unit {unit}; the loss must be finite there")
    cut = [_cut(value / total, squares / total**2, count, threshold) for value, squares in ((g, g2), (H, H2))]
    return QuadraticModel(*cut)


def _cut(total: Tensor, squares: Tensor, count: int, threshold: float) -> Tensor:
    """Soft-threshold sums of ``count`` terms (whose squares sum to ``squares``) by their standard errors."""
    variance = (squares - total**2 / count).clamp(min=0.0) * (count / max(count - 1, 1))
    return total.sign() * (total.abs() - threshold * variance.sqrt()).clamp(min=0.0)


def _sample_derivatives(
    objective: Objective, layer: nn.Linear, unit: int, batch: Batch
) -> tuple[Tensor, Tensor, Tensor]:
    """The layer's input ``(N, n)``, and the batch loss's first two derivatives by each ``z_s``, ``(N,)``."""
    calls: list[tuple[Tensor, Tensor]] = []  # input and shift of z, of each call of the layer

    def shifted(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if output.ndim != 2:
            raise ValueError(f"Invalid layer: its output has shape {tuple(output.shape)}; must be (N, units)")
        shift = output.new_zeros(len(output)).requires_grad_()
        calls.append((args[0].detach(), shift))
        return output + shift[:, None] * (torch.arange(output.shape[1], device=output.device) == unit)

    handle = layer.register_forward_hook(shifted)
    try:
        with torch.enable_grad(), differentiable():
            loss = objective.batch_loss(objective.forward(batch), batch)
    finally:
        handle.remove()
    if len(calls) != 1:
        raise ValueError(f"Invalid layer: called {len(calls)} times in a forward pass; must be called once")
    x, shift = calls[0]
    slope = pull(loss, shift, None)
    # Samples do not mix, so the Hessian by z is diagonal, and its row sums are its diagonal.
    bend = pull(slope, shift, torch.ones_like(slope))
    return x.double(), slope.detach().double(), bend.double()
