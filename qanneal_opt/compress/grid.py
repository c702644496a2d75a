"""The grid that weights are rounded to: a scale and a zero point for each group of a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qanneal_opt.checks import check_int
from qanneal_opt.floats import all_finite, shape_of

__all__ = ["ZEROS", "Grid", "fit_grid"]

_SHRINKS = tuple(k / 40 for k in range(40, 7, -1))  # of the range from min to max, tried at both ends together
_NUDGES = (0.85, 0.93, 0.97, 1.03, 1.07, 1.15) * 2  # of what was best, tried at one end and then at the other
_CACHED = 2**17  # weights worked on together: tried 58 times, out of the cache
ZEROS = ("integer", "real")


@dataclass(frozen=True, eq=False)
class Grid:
    r"""Levels of a weight matrix, :math:`w_{rc} = s_{rg} (q_{rc} - z_{rg})`, q whole numbers and g = c // group_size.

    Args:
        bits: 1 to 8; the codes q are 0 .. 2**bits - 1.
        scale: ``(R, G)`` float32, positive: s.
        zero: ``(R, G)`` float32: z.
        group_size: columns a group; the last group may have fewer.

    >>> grid = Grid(2, torch.tensor([[0.5]]), torch.tensor([[1.0]]), 3)
    >>> grid.nearest(torch.tensor([[-0.6, 0.3, 9.0]]))
    tensor([[0, 2, 3]], dtype=torch.uint8)
    >>> grid.decode(grid.nearest(torch.tensor([[-0.6, 0.3, 9.0]])))
    tensor([[-0.5000,  0.5000,  1.0000]])
    """

    bits: int
    scale: Tensor
    zero: Tensor
    group_size: int

    @property
    def top(self) -> int:
        """The highest code."""
        return (1 << self.bits) - 1

    def spread(self, columns: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point of each weight, ``(R, columns)`` float32 both."""
        scale, zero = (
            part[:, :, None].expand(-1, -1, self.group_size).flatten(1)[:, :columns] for part in (self.scale, self.zero)
        )
        return scale, zero

    def decode(self, codes: Tensor) -> Tensor:
        """The weights ``(R, C)`` float32 of codes ``(R, C)``."""
        scale, zero = self.spread(codes.shape[1])
        return (codes.to(torch.float32) - zero).mul_(scale)

    def nearest(self, weight: Tensor) -> Tensor:
        """The codes ``(R, C)`` uint8 whose weights are nearest to ``weight``."""
        scale, zero = self.spread(weight.shape[1])
        return (weight.double() / scale).add_(zero).round_().clamp_(0, self.top).to(torch.uint8)

    def patched(self, other: Grid, rows: Tensor) -> Grid:
        """The same with the scales and zero points of ``other`` in ``rows``, ``(R,)`` bool."""
        scale, zero = (torch.where(rows[:, None], getattr(other, n), getattr(self, n)) for n in ("scale", "zero"))
        return Grid(self.bits, scale, zero, self.group_size)

    def rows(self, part: slice) -> Grid:
        """The grid of some rows."""
        return Grid(self.bits, self.scale[part], self.zero[part], self.group_size)


def fit_grid(
    weight: Tensor,
    moment: Tensor,
    bits: int,
    *,
    group_size: int | None = None,
    symmetric: bool = False,
    weighted: bool = True,
    zero: str = "integer",
) -> Grid:
    r"""A grid from the least to the greatest weight of each group, 0 included, or from a part of that range.

    With ``weighted`` both ends are multiplied by factors, first the same and then each its own, that make
    :math:`\sum_c H_{cc} (\mathrm{nearest}(w_c) - w_c)^2` small: outliers are clipped where the others gain more.

    Args:
        weight: ``(R, C)``.
        moment: ``(C, C)``: H, the second moment of the inputs.
        bits: 1 to 8.
        group_size: columns a group; ``None``: the whole row is one.
        symmetric: the range is as wide below 0 as above.
        weighted: choose the range by the weighted error.
        zero: ``"integer"``: 0 is a level; ``"real"``: levels lie anywhere.

    Raises:
        ValueError: a shape or number out of its range, or weights that are not finite.

    >>> weight = torch.tensor([[-1.0, 0.1, 0.2, 2.0]])
    >>> fit_grid(weight, torch.eye(4), 2, weighted=False).scale
    tensor([[1.]])
    """
    check_int("bits", bits, 1, 8)
    if zero not in ZEROS:
        raise ValueError(f"Invalid zero: {zero!r}; must be one of {ZEROS}")
    if weight.ndim != 2 or not weight.numel():
        raise ValueError(f"Invalid weight: shape {shape_of(weight)}; must be a matrix with entries")
    if not all_finite(weight):
        raise ValueError("Invalid weight: not finite; every entry must be")
    columns = weight.shape[1]
    if moment.shape != (columns, columns):
        raise ValueError(f"Invalid moment: shape {shape_of(moment)}; must be ({columns}, {columns})")
    size = columns if group_size is None else group_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"Invalid group_size: {size}; a positive int is needed, or None for whole rows")
    size = min(size, columns)
    blocks = _blocks(weight.float(), size)  # (R, G, size)
    price = _blocks(moment.diagonal().clamp(min=0.0)[None].float(), size)  # (1, G, size)
    pieces = blocks.split(max(1, _CACHED // columns))
    fitted = [_fitted(piece, price, bits, symmetric, weighted, zero) for piece in pieces]
    scale, offset = (torch.cat(parts)[..., 0] for parts in zip(*fitted))
    return Grid(bits, scale, offset, size)


def _fitted(
    blocks: Tensor, price: Tensor, bits: int, symmetric: bool, weighted: bool, zero: str
) -> tuple[Tensor, Tensor]:
    """Scales and zero points ``(R, G, 1)`` of groups of weights."""
    low, high = blocks.amin(2, keepdim=True), blocks.amax(2, keepdim=True)  # padding is 0, which is in the range
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    best = [torch.full_like(low, torch.inf), low, high]

    def attempt(low: Tensor, high: Tensor) -> None:
        new = [_error(blocks, price, *_levels(low, high, bits, symmetric, zero), bits), low, high]
        better = new[0] < best[0]
        best[:] = [torch.where(better, fresh, old) for fresh, old in zip(new, best)]

    for shrink in _SHRINKS if weighted else ():
        attempt(shrink * low, shrink * high)
    for nudge in _NUDGES if weighted and not symmetric else ():
        attempt(nudge * best[1], best[2])
        attempt(best[1], nudge * best[2])
    return _levels(best[1], best[2], bits, symmetric, zero)


def _error(blocks: Tensor, price: Tensor, scale: Tensor, offset: Tensor, bits: int) -> Tensor:
    """Weighted squared error ``(R, G, 1)`` of nearest rounding."""
    codes = (blocks / scale).add_(offset).round_().clamp_(0, 2**bits - 1)
    error: Tensor = codes.sub_(offset).mul_(scale).sub_(blocks).square_().mul_(price).sum(2, keepdim=True)
    return error


def _blocks(rows: Tensor, size: int) -> Tensor:
    """Rows cut into groups, ``(R, G, size)``, the last one padded with zeros."""
    padding = -rows.shape[1] % size
    return torch.nn.functional.pad(rows, (0, padding)).reshape(len(rows), -1, size)


def _levels(low: Tensor, high: Tensor, bits: int, symmetric: bool, zero: str) -> tuple[Tensor, Tensor]:
    """Scale and zero point of ranges that hold 0; a group of zeros gets the scale 1."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = (high - low) / (2**bits - 1)
    scale = torch.where(scale > 0, scale, 1.0)
    if symmetric:
        return scale, torch.full_like(scale, 2.0 ** (bits - 1) if zero == "integer" else (2**bits - 1) / 2)
    return scale, (-low / scale).round() if zero == "integer" else -low / scale
