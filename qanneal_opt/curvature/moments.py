"""Second moments of rows, summed up batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCKS = 8  # columns are cut into so many blocks, of which the upper triangle is computed: 9/16 of the work


class Gram:
    r"""Running sums over rows x of :math:`x x^\top` and of x, for several groups of columns at once.

    Products are computed in the rows' precision, float32 at least, and summed in float64.

    >>> gram = Gram()
    >>> gram.add(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]))
    >>> gram.moment().tolist(), gram.mean().tolist(), gram.rows
    ([[[5.0, 1.0], [1.0, 2.0]]], [[2.0, 1.0]], 2)
    """

    def __init__(self) -> None:
        self.rows = 0
        self._unit: Tensor | None = None  # (G,) float64: what the sums are divided by
        self._square: Tensor | None = None  # (G, C, C) float64: blocks below the diagonal are not kept up
        self._sum: Tensor | None = None  # (G, C) float64

    def add(self, rows: Tensor, partners: Tensor | None = None, unit: Tensor | None = None) -> None:
        """Add rows, ``(G, N, C)`` of any floating dtype.

        With ``partners`` y of the same shape, for which the sum of x y' is symmetric, add that and the sum of y
        instead. They count as ``unit``, ``(G,)`` float64, or each as 1.
        """
        if rows.dtype != torch.float64:
            rows = rows.float()
        others = rows if partners is None else partners.to(rows.dtype)
        groups, _, columns = rows.shape
        if self._square is None or self._sum is None or self._unit is None:
            self._square = torch.zeros(groups, columns, columns, dtype=torch.float64, device=rows.device)
            self._sum = torch.zeros(groups, columns, dtype=torch.float64, device=rows.device)
            self._unit = torch.zeros(groups, dtype=torch.float64, device=rows.device)
        step = columns if columns < 256 else -(-columns // _BLOCKS)
        for at in range(0, columns, step):
            self._square[:, at : at + step, at:] += rows[:, :, at : at + step].mT @ others[:, :, at:]
        self._sum += others.sum(1)
        self.rows += rows.shape[1]
        self._unit += rows.shape[1] if unit is None else unit

    def copy(self) -> Gram:
        """The same sums, to be gone on with separately."""
        other = Gram()
        other.rows = self.rows
        other._square, other._sum, other._unit = (
            None if sums is None else sums.clone() for sums in (self._square, self._sum, self._unit)
        )
        return other

    def moment(self) -> Tensor:
        """The mean of x x', ``(G, C, C)`` float64, exactly symmetric."""
        assert self._square is not None and self._unit is not None
        upper = self._square.triu() / self._unit[:, None, None]
        return upper + upper.triu(1).mT

    def mean(self) -> Tensor:
        """The mean of x, ``(G, C)`` float64."""
        assert self._sum is not None and self._unit is not None
        return self._sum / self._unit[:, None]
