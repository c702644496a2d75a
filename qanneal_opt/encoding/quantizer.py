"""Codes nearest to weights under a scale, and the scale that fits codes best, a block of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.encoding.base import CHUNK


@dataclass(frozen=True, eq=False)
class Quantizer:
    r"""Weights :math:`w_i \approx q_i s`, where ``q = levels[codes] - zero`` and the scale s is one for many weights.

    For given codes the least-squares scale is :math:`s = \sum_i w_i q_i / \sum_i q_i^2`; nearest codes and this scale
    in turn are Lloyd's algorithm ("Least squares quantization in PCM", 1982). Temporaries are of a block of rows,
    whatever the parameter's size.

    Attributes:
        levels: ``(L,)`` ascending, in the parameter's dtype.
        zero: broadcasts to the parameter; None: 0.
        shape: of the parameter.
        dims: the dimensions that one scale extends over.
    """

    levels: Tensor
    zero: Tensor | None
    shape: torch.Size
    dims: tuple[int, ...]

    @cached_property
    def _between(self) -> Tensor:
        """``(L - 1,)`` where one level ends to be the nearest."""
        return (self.levels[1:] + self.levels[:-1]) / 2

    def signs(self, codes: Tensor, part: Any = ...) -> Tensor:
        """Give ``levels[codes] - zero`` of a block, of the shape of its ``codes``."""
        signs = self.levels.index_select(0, codes.flatten().int()).view(codes.shape)
        return signs if self.zero is None else signs - self.share(self.zero, part)

    def snap(self, weights: Tensor, scale: Tensor, codes: Tensor) -> None:
        """Write the codes nearest to ``weights`` into ``codes``."""
        for part, own in self.blocks(scale):
            codes[part] = self._nearest(weights[part], own, part)

    def follow(self, weights: Tensor, scale: Tensor, codes: Tensor) -> Tensor:
        """Snap, and give the least-squares scale of the new codes: one step of Lloyd's algorithm."""
        products, squares = [], []
        for part, own in self.blocks(scale):
            nearest = self._nearest(weights[part], own, part)
            codes[part] = nearest
            signs = self.signs(nearest, part)
            products.append(self.sum_rows(weights[part] * signs))
            squares.append(self.sum_rows(signs * signs))
        fitted = self.join(products) / self.join(squares)
        return torch.where(fitted > 0, fitted, scale)  # NaN where all levels are 0: as it was

    def fit(self, weights: Tensor) -> Tensor:
        """Give the best of a few starts of Lloyd's algorithm, for each scale by its squared error."""
        rows = weights.abs()
        if self.dims:
            rows = rows.amax(self.dims, keepdim=weights.ndim > len(self.dims))
        widest = torch.where(rows > 0, rows, torch.ones_like(rows)) / self.levels.abs().max()
        best, least = widest, torch.full_like(widest, math.inf)
        codes = torch.empty_like(weights, dtype=torch.uint8)
        for fraction in (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25):  # above 1 where levels lean to one side
            scale = widest * fraction
            for _ in range(4):
                scale = self.follow(weights, scale, codes)
            error = self._error(weights, scale)
            best = torch.where(error < least, scale, best)
            least = torch.minimum(error, least)
        return best

    def blocks(self, scale: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Give ranges of rows, each with its share of ``scale``."""
        rows = self.shape[0] if self.shape else 1
        size = max(1, CHUNK * rows // self.shape.numel())
        if size >= rows:
            yield ..., scale
            return
        for at in range(0, rows, size):
            part = slice(at, at + size)
            yield part, self.share(scale, part)

    def share(self, values: Tensor, part: Any) -> Tensor:
        """Give what belongs to a block, of a tensor that broadcasts to the parameter."""
        own = part is not ... and values.ndim == len(self.shape) and len(values) == self.shape[0]
        return values[part] if own else values

    def sum_rows(self, values: Tensor) -> Tensor:
        """Sum ``values``, of the shape of the parameter or of a block, over the weights of each scale."""
        return values.sum(self.dims, keepdim=values.ndim > len(self.dims)) if self.dims else values.clone()

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Put the blocks' :meth:`sum_rows` together: the scale's shape."""
        return torch.cat(list(parts)) if parts[0].ndim else torch.stack(list(parts)).sum(0)

    def _nearest(self, weights: Tensor, scale: Tensor, part: Any) -> Tensor:
        """The codes of a block's levels nearest to ``weights``, uint8."""
        ratio = weights / scale
        if self.zero is not None:
            ratio = ratio + self.share(self.zero, part)
        if len(self._between) > 4:
            return torch.bucketize(ratio.contiguous(), self._between, right=True, out_int32=True).to(torch.uint8)
        codes = torch.zeros_like(ratio, dtype=torch.uint8)
        for between in self._between:
            codes += ratio >= between
        return codes

    def _error(self, weights: Tensor, scale: Tensor) -> Tensor:
        """The squared error of snapping ``weights``: the scale's shape."""
        errors = []
        for part, own in self.blocks(scale):
            snapped = self.signs(self._nearest(weights[part], own, part), part) * own
            errors.append(self.sum_rows((weights[part] - snapped).square()))
        return self.join(errors)
