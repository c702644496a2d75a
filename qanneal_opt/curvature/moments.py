"""Second moments of rows, summed up batch by batch."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCK = 128  # columns multiplied at a time: of the square only the blocks on and above the diagonal are computed

_CHUNK = 512  # rows


class Gram:
    r"""Running sums over rows x of :math:`x x^\top`, of x, and of 1, for several groups of columns at once.

    Rows enter as differences from the mean of the first ones, so that a mean far from 0 costs no digits. Products are
    computed in the rows' precision, float32 at least, and summed in float64.

    Args:
        precision: ``torch.bfloat16``: a CPU that multiplies such numbers faster may round the differences to it, where
            there are hundreds.

    >>> gram = Gram()
    >>> gram.add(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]))
    >>> gram.moment().tolist(), gram.mean().tolist(), gram.rows
    ([[[5.0, 1.0], [1.0, 2.0]]], [[2.0, 1.0]], 2)
    """

    def __init__(self, precision: torch.dtype = torch.float32) -> None:
        self.rows = 0
        self._precision = precision
        self._origin: Tensor | None = None  # (G, 1, C): what rows are differences from
        self._square: Tensor | None = None  # (G, C, C) float64: blocks below the diagonal are not kept up
        self._sums: tuple[Tensor, Tensor, Tensor] | None = None  # of x, of 1, and what both are divided by; float64

    def add(self, rows: Tensor) -> None:
        """Add rows, ``(G, N, C)`` of any floating dtype."""
        x = self.differences(rows)
        count = torch.full((len(x),), float(x.shape[1]), dtype=torch.float64, device=x.device)
        self.add_products(x, x, (x.sum(1), count, count))

    def differences(self, rows: Tensor) -> Tensor:
        """Rows ``(G, N, C)`` as they enter products: from the origin, which the first ones set."""
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if self._origin is None and rows.shape[1]:
            self._origin = rows.mean(1, keepdim=True)
        return rows if self._origin is None else rows - self._origin

    def add_products(self, left: Tensor, right: Tensor, sums: tuple[Tensor, Tensor, Tensor]) -> None:
        r"""Add :math:`\sum x y^\top`, which is symmetric, with what it is where x, y or both are made of a constant 1.

        Args:
            left: ``(G, N, C)``: x, made of differences.
            right: ``(G, N, C)``: y, made of differences.
            sums: ``(G, C)``: the sum with x made of 1; ``(G,)``: with both; ``(G,)``: what the means are divided by.
        """
        groups, count, columns = left.shape
        if self._square is None or self._sums is None:
            self._square = torch.zeros(groups, columns, columns, dtype=torch.float64, device=left.device)
            self._sums = sums[0].double(), sums[1].double(), sums[2].double()
        else:
            line, unit, weight = (old + new for old, new in zip(self._sums, sums, strict=True))
            self._sums = line, unit, weight
        square = self._square
        if groups == 1:  # products of a batch of matrices are slower
            left, right, square = left[0], right[0], square[0]
        # Fast products are compiled for each number of rows: what fills no chunk is multiplied in full.
        whole = count - count % _CHUNK
        for part, precision in ((slice(whole), self._precision), (slice(whole, count), torch.float32)):
            x, y = left[..., part, :], right[..., part, :]
            with _products_in(precision):
                for at in range(0, columns if x.shape[-2] else 0, _BLOCK):
                    square[..., at : at + _BLOCK, at:] += x[..., at : at + _BLOCK].mT @ y[..., at:]
        self.rows += count

    def copy(self) -> Gram:
        """The same sums, to be gone on with separately."""
        return copy.deepcopy(self)

    def moment(self) -> Tensor:
        """The mean of x x', ``(G, C, C)`` float64, exactly symmetric."""
        origin, (line, unit, weight) = self._parts()
        assert self._square is not None
        upper = self._square.triu()
        # (d + o)(d + o)' = d d' + o (d + o / 2)' + (d + o / 2) o', summed up over the differences d
        half = line + 0.5 * unit[:, None] * origin
        cross = origin[:, :, None] * half[:, None, :]
        return (upper + upper.triu(1).mT + (cross + cross.mT)) / weight[:, None, None]

    def mean(self) -> Tensor:
        """The mean of x, ``(G, C)`` float64."""
        origin, (line, unit, weight) = self._parts()
        return (line + unit[:, None] * origin) / weight[:, None]

    def constant(self) -> Tensor:
        """The mean that stands for a constant input of 1, ``(G,)`` float64: 1, for rows."""
        _, (_, unit, weight) = self._parts()
        return unit / weight

    def _parts(self) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        assert self._sums is not None
        line = self._sums[0]
        origin = torch.zeros_like(line) if self._origin is None else self._origin[:, 0].double()
        return origin, self._sums


@contextlib.contextmanager
def _products_in(precision: torch.dtype) -> Iterator[None]:
    """Matrix products of float32 on a CPU may round their factors to bfloat16, if that is the precision."""
    backend: Any = getattr(torch.backends.mkldnn, "matmul", None)  # torch from 2.9
    if precision is not torch.bfloat16 or not hasattr(backend, "fp32_precision"):
        yield
        return
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    try:
        yield
    finally:
        backend.fp32_precision = before
