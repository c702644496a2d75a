"""The grid fitted to codes that are held: least squares of the scales and offsets of each row."""

from __future__ import annotations

import torch
from torch import Tensor

from qanneal_opt.compress.forms import by_groups, group_sums
from qanneal_opt.compress.grid import Grid

__all__ = ["refit_grid"]

_TRIES = 3
_SMALLEST = 0.05  # of the old scale: less, or a negative one, is no grid for these codes
_NUMBERS = 2**24  # of the systems solved at a time
_RIDGE = 1e-9  # of a system's mean diagonal: groups may be empty, or all of one code


def refit_grid(
    weight: Tensor, codes: Tensor, grid: Grid, moment: Tensor, *, zero: str = "integer", target: Tensor | None = None
) -> Grid:
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
        target: ``(R, C)``: W H in float64, where it is at hand.

    >>> weight, grid = torch.tensor([[0.0, 1.1, 2.2]]), Grid(2, torch.tensor([[1.0]]), torch.tensor([[0.0]]), 3)
    >>> refit_grid(weight, grid.nearest(weight), grid, torch.eye(3)).scale
    tensor([[1.1000]])
    """
    count = max(1, _NUMBERS // (4 * grid.scale.shape[1] ** 2))
    pieces = [slice(low, low + count) for low in range(0, len(weight), count)]
    H = moment.double()
    target = weight.double() @ H if target is None else target
    pulls = group_sums(H, grid.group_size)
    fitted = [
        _refitted(grid.rows(part), *_system(codes[part].double(), target[part], H, pulls, grid.group_size), zero)
        for part in pieces
    ]
    scale, offset = (torch.cat([getattr(piece, name) for piece in fitted]) for name in ("scale", "zero"))
    return Grid(grid.bits, scale, offset, grid.group_size)


def _system(codes: Tensor, target: Tensor, moment: Tensor, pulls: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """M and r of each row: its error is x' M x - 2 x' r + w' H w, first the scales in x and then the offsets.

    Args:
        codes: ``(R, C)`` float64.
        target: ``(R, C)``: W H.
        moment: ``(C, C)``: H.
        pulls: ``(C, G)``: H times the ones of each group.
        size: columns a group.

    Returns:
        M ``(R, 2 G, 2 G)`` and r ``(R, 2 G)``.
    """
    groups, rows = pulls.shape[1], len(codes)
    between = codes.new_empty(rows, groups, groups)
    for g in range(groups):
        part = slice(g * size, (g + 1) * size)
        between[:, g] = codes[:, part] @ pulls[part]
    ones = group_sums(pulls.T, size).expand(rows, -1, -1)
    matrix = torch.cat([torch.cat([by_groups(codes, moment, size), between], 2), torch.cat([between.mT, ones], 2)], 1)
    return matrix, torch.cat([group_sums(codes * target, size), group_sums(target, size)], 1)


def _refitted(grid: Grid, matrix: Tensor, right: Tensor, zero: str) -> Grid:
    scale, offset = grid.scale.double(), grid.zero.double()
    groups = scale.shape[1]
    old = _coefficients(grid)
    if zero == "real":
        scale, shift = _solved(matrix, right, old, groups).chunk(2, 1)
        offset = -shift / scale
    else:
        if zero == "integer":
            offset = _refitted(grid, matrix, right, "real").zero.double().round().clamp(0, grid.top)
        cross = matrix[:, :groups, groups:] * offset[:, None, :]  # of codes and of ones times the zero points
        ones = matrix[:, groups:, groups:] * offset[:, None, :] * offset[:, :, None]
        own = matrix[:, :groups, :groups] - cross - cross.mT + ones
        scale = _solved(own, right[:, :groups] - offset * right[:, groups:], scale, groups)
    found = Grid(grid.bits, scale.float(), offset.float(), grid.group_size)
    # The difference of two errors, either of which would be lost in w' H w.
    step = _coefficients(found) - old
    gain = (step * (2 * (right - _times(matrix, old)) - _times(matrix, step))).sum(1)
    return grid.patched(found, gain > 0)


def _coefficients(grid: Grid) -> Tensor:
    scale = grid.scale.double()
    return torch.cat([scale, -scale * grid.zero.double()], 1)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x[..., None])[..., 0]


def _solved(matrix: Tensor, right: Tensor, start: Tensor, groups: int) -> Tensor:
    """Coefficients ``(R, k G)``, the scales first, that solve the system but for a ridge towards the old ones."""
    ridge = _RIDGE * matrix.diagonal(dim1=1, dim2=2).mean(1, keepdim=True).clamp(min=1e-30)
    matrix = matrix + torch.diag_embed(ridge.expand_as(start))
    right = right + ridge * start
    free = torch.ones_like(right, dtype=torch.bool)
    for _ in range(_TRIES):
        held = torch.where(free, 0.0, start)
        system = torch.where(free[:, :, None] & free[:, None, :], matrix, torch.diag_embed((~free).double()))
        x: Tensor = torch.linalg.solve(system, torch.where(free, right - _times(matrix, held), start))
        bad = ~(x[:, :groups] > _SMALLEST * start[:, :groups])
        if not bool(bad.any()):
            break
        free &= ~bad.repeat(1, start.shape[1] // groups)
    return torch.where(free, x, start)
