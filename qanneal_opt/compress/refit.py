r"""The grid fitted to codes that are held: least squares of all scales and offsets of a matrix.

With :math:`v_{rc} = s_{rg} q_{rc} + o_{rg}` the error :math:`f = \mathrm{tr}(G (V - W) H (V - W)^\top)` is quadratic in
s and o. Rows feel each other through G; conjugate gradients, preconditioned by each row's own system, need one step
without G and few with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qanneal_opt.compress.grid import Grid

__all__ = ["refit_grid"]

_STEPS = 6
_TRIES = 3
_SMALLEST = 0.05  # of the old scale
_ENOUGH = 1e-6  # of the first residual, in the preconditioner's norm squared


def refit_grid(
    weight: Tensor, codes: Tensor, grid: Grid, moment: Tensor, output: Tensor | None = None, *, zero: str = "integer"
) -> Grid:
    """The grid of the same kind with a smaller f, the codes held; the old one if none is found.

    Args:
        weight: ``(R, C)``: W.
        codes: ``(R, C)`` uint8: q.
        grid: of the codes.
        moment: ``(C, C)``: H.
        output: ``(R, R)``: G; ``None`` for the identity.
        zero: ``"real"``; ``"integer"``: zero points are rounded and the scales fitted again; ``"fixed"``: they stay.

    >>> weight, grid = torch.tensor([[0.0, 1.1, 2.2]]), Grid(2, torch.tensor([[1.0]]), torch.tensor([[0.0]]), 3)
    >>> refit_grid(weight, grid.nearest(weight), grid, torch.eye(3)).scale
    tensor([[1.1000]])
    """
    w, q, H = weight.double(), codes.double(), moment.double()
    G = None if output is None else output.double()
    found = grid
    if zero != "fixed":
        start = torch.stack([grid.scale, -grid.scale * grid.zero]).double()
        scale, offset = _positive(torch.stack([q, torch.ones_like(q)]), start, w, H, G, grid.group_size)
        found = Grid(grid.bits, scale.float(), (-offset / scale).float(), grid.group_size)
    if zero == "integer":
        found = Grid(grid.bits, found.scale, found.zero.round().clamp(0, grid.top), grid.group_size)
    if zero != "real":
        shifted = q - found.spread(w.shape[1])[1]
        (scale,) = _positive(shifted[None], grid.scale.double()[None], w, H, G, grid.group_size)
        found = Grid(grid.bits, scale.float(), found.zero, grid.group_size)
    old, new = (_error(g.decode(codes).double() - w, H, G) for g in (grid, found))
    return found if new < old else grid


def _positive(
    features: Tensor, start: Tensor, weight: Tensor, moment: Tensor, output: Tensor | None, size: int
) -> Tensor:
    """As `_fitted`, but groups whose scale would not stay positive are held at the start, the others fitted again."""
    group = torch.arange(weight.shape[1], device=weight.device) // size
    held = torch.zeros_like(start[0], dtype=torch.bool)
    x = start
    for _ in range(_TRIES):
        still = held[:, group]
        rest = weight - torch.where(still, (start[..., group] * features).sum(0), 0.0)
        x = torch.where(held, start, _fitted(torch.where(still, 0.0, features), start, rest, moment, output, size))
        bad = ~(x[0] > _SMALLEST * start[0])
        if not bool(bad.any()):
            return x
        held |= bad
    return torch.where(held, start, x)


def _error(difference: Tensor, moment: Tensor, output: Tensor | None) -> float:
    return float((difference * _through(difference, moment, output)).sum())


def _through(difference: Tensor, moment: Tensor, output: Tensor | None) -> Tensor:
    """G E H."""
    pull = difference @ moment
    return pull if output is None else output @ pull


def _fitted(features: Tensor, x: Tensor, weight: Tensor, moment: Tensor, output: Tensor | None, size: int) -> Tensor:
    """Coefficients ``(k, R, G)`` of ``features`` ``(k, R, C)`` with the least f, sought from ``x``."""
    count, rows, columns = features.shape
    groups = x.shape[2]
    group = torch.arange(columns, device=weight.device) // size

    single = features.float()

    def value(x: Tensor) -> Tensor:  # (R, C)
        return (x.float()[..., group] * single).sum(0)

    def gathered(pull: Tensor) -> Tensor:  # (k, R, G)
        products = torch.nn.functional.pad(features * pull, (0, groups * size - columns))
        sums: Tensor = products.unflatten(2, (groups, size)).sum(3)
        return sums

    own = torch.empty(rows, count, groups, count, groups, dtype=weight.dtype, device=weight.device)
    for k in range(count):
        for g in range(groups):
            part = group == g
            own[:, k, g] = gathered(features[k][:, part] @ moment[part]).transpose(0, 1)
    own = own.reshape(rows, count * groups, count * groups)
    if output is not None:
        own = own * output.diagonal()[:, None, None]
    ridge = 1e-9 * own.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)  # groups may be empty, or all of one code
    own.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    factor = torch.linalg.cholesky(own)

    def conditioned(residual: Tensor) -> Tensor:
        flat = residual.transpose(0, 1).reshape(rows, -1, 1)
        return torch.cholesky_solve(flat, factor).reshape(rows, count, groups).transpose(0, 1)

    # The steps are in float32: what they come to is judged in float64.
    H, G = moment.float(), None if output is None else output.float()
    residual = -gathered(_through(value(x) - weight.float(), H, G))
    step = conditioned(residual)
    norm = first = float((residual * step).sum())
    for _ in range(_STEPS):
        pull = gathered(_through(value(step), H, G))
        bend = float((step * pull).sum())
        if not norm > _ENOUGH * first or not bend > 0.0:
            break
        length = norm / bend
        x = x + length * step
        residual = residual - length * pull
        towards = conditioned(residual)
        norm, before = float((residual * towards).sum()), norm
        step = towards + norm / before * step
    return x
