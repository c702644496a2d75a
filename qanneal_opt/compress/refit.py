"""The grid fitted to codes that are held: least squares of the scales and offsets of each row."""

from __future__ import annotations

import torch
from torch import Tensor

from qanneal_opt.compress.grid import Grid

__all__ = ["refit_grid"]

_TRIES = 3
_SMALLEST = 0.05  # of the old scale: less, or a negative one, is no grid for these codes
_NUMBERS = 2**24  # of the systems solved at a time
_RIDGE = 1e-9  # of a system's mean diagonal: groups may be empty, or all of one code


def refit_grid(weight: Tensor, codes: Tensor, grid: Grid, moment: Tensor, *, zero: str = "integer") -> Grid:
    r"""The grid with the least :math:`(v - w)' H (v - w)` of each row, :math:`v_c = s_g q_c + o_g`, the codes held.

    A row's scales and offsets are one linear system. Groups that would be turned over keep theirs, and rows that
    would not gain. How rows feel each other is left out on purpose: scales fitted to it follow the calibration data too
    closely.

    Args:
        weight: ``(R, C)``: w.
        codes: ``(R, C)`` uint8: q.
        grid: of the codes.
        moment: ``(C, C)``: H.
        zero: ``"real"``; ``"integer"``: zero points are rounded and the scales fitted again; ``"fixed"``: they stay.

    >>> weight, grid = torch.tensor([[0.0, 1.1, 2.2]]), Grid(2, torch.tensor([[1.0]]), torch.tensor([[0.0]]), 3)
    >>> refit_grid(weight, grid.nearest(weight), grid, torch.eye(3)).scale
    tensor([[1.1000]])
    """
    count = max(1, _NUMBERS // (4 * grid.scale.shape[1] ** 2))
    pieces = [slice(low, low + count) for low in range(0, len(weight), count)]
    H = moment.double()
    fitted = [_refitted(weight[part].double(), codes[part].double(), grid.rows(part), H, zero) for part in pieces]
    scale, offset = (torch.cat([getattr(piece, name) for piece in fitted]) for name in ("scale", "zero"))
    return Grid(grid.bits, scale, offset, grid.group_size)


def _refitted(weight: Tensor, codes: Tensor, grid: Grid, moment: Tensor, zero: str) -> Grid:
    scale, offset, size = grid.scale.double(), grid.zero.double(), grid.group_size
    target = weight @ moment
    if zero == "real":
        start = torch.cat([scale, -scale * offset], 1)
        scale, shift = _fitted(torch.stack([codes, torch.ones_like(codes)]), start, target, moment, size).chunk(2, 1)
        offset = -shift / scale
    else:
        if zero == "integer":
            offset = _refitted(weight, codes, grid, moment, "real").zero.double().round().clamp(0, grid.top)
        shifted = codes - offset.repeat_interleave(size, 1)[:, : codes.shape[1]]
        scale = _fitted(shifted[None], scale, target, moment, size)
    found = Grid(grid.bits, scale.float(), offset.float(), size)
    errors = [g.decode(codes).double() - weight for g in (grid, found)]
    old, new = (((e @ moment) * e).sum(1, keepdim=True) for e in errors)
    scale, offset = (torch.where(new < old, getattr(found, n), getattr(grid, n)) for n in ("scale", "zero"))
    return Grid(grid.bits, scale, offset, size)


def _fitted(features: Tensor, start: Tensor, target: Tensor, moment: Tensor, size: int) -> Tensor:
    """Coefficients ``(R, k G)`` of ``features`` ``(k, R, C)``, a group at a time; the scales come first.

    Args:
        features: what the coefficients multiply.
        start: ``(R, k G)``: the old ones.
        target: ``(R, C)``: the weights times H.
        moment: H.
        size: columns a group.
    """
    count, rows, columns = features.shape
    groups = -(-columns // size)

    def gathered(pull: Tensor) -> Tensor:  # (R, C) to (R, k G): sums over each group's columns
        products = torch.nn.functional.pad(features * pull, (0, groups * size - columns))
        sums: Tensor = products.unflatten(2, (groups, size)).sum(3)
        return sums.transpose(0, 1).reshape(rows, count * groups)

    parts = [slice(low, low + size) for low in range(0, columns, size)]
    matrix = torch.stack([gathered(feature[:, part] @ moment[part]) for feature in features for part in parts], 1)
    ridge = _RIDGE * matrix.diagonal(dim1=1, dim2=2).mean(1, keepdim=True).clamp(min=1e-30)
    matrix.diagonal(dim1=1, dim2=2).add_(ridge)
    right = gathered(target) + ridge * start
    free = torch.ones_like(right, dtype=torch.bool)
    for _ in range(_TRIES):
        held = torch.where(free, 0.0, start)
        system = torch.where(free[:, :, None] & free[:, None, :], matrix, torch.diag_embed((~free).double()))
        x = torch.linalg.solve(system, torch.where(free, right - (matrix @ held[..., None])[..., 0], start))
        bad = ~(x[:, :groups] > _SMALLEST * start[:, :groups])
        if not bool(bad.any()):
            break
        free &= ~bad.repeat(1, count)
    return torch.where(free, x, start)
