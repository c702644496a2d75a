"""Which weights to drop, as one quadratic problem: the QUBO over its units, and the weights that make up for them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qanneal_opt.qubo import Qubo


@dataclass(frozen=True, eq=False)
class Choice:
    r"""n weights in m units, and a quadratic model of the loss around them; of each cell a number of units is kept.

    .. math:: f(w + d) - f(w) \approx g^\top d + d^\top H d / 2

    Attributes:
        w: ``(n,)`` present weights.
        g: ``(n,)`` gradient.
        H: ``(n, n)`` curvature, symmetric and positive semidefinite. All three are float64 on the CPU.
        unit: ``(n,)`` int64: weights of the same unit are kept or dropped together.
        cell: ``(m,)`` int64: of each unit.
        quota: ``(c,)`` int64: how many units of each cell are kept.
    """

    w: Tensor
    g: Tensor
    H: Tensor
    unit: Tensor
    cell: Tensor
    quota: Tensor

    @property
    def surplus(self) -> Tensor:
        """How many units each cell has to drop, ``(c,)`` int64."""
        return torch.bincount(self.cell, minlength=len(self.quota)) - self.quota

    @property
    def single(self) -> bool:
        """Whether every unit is one weight."""
        return len(self.unit) == len(self.cell)

    def damped(self, damping: float) -> Choice:
        """The same with ``damping`` times the mean diagonal of H added to its diagonal: a step that trusts H less."""
        if damping == 0:
            return self
        scale = float(self.H.diagonal().mean()) if len(self.w) else 0.0
        H = self.H.clone()
        H.diagonal().add_(damping * (scale if scale > 0 else 1.0))
        return replace(self, H=H)

    def qubo(self) -> Qubo:
        r"""Predicted change of the loss over the bits x of units to drop, all else unchanged.

        .. math:: E(x) = h^\top x + x^\top Q x / 2, \qquad h_i = -g_i w_i + Q_{ii} / 2, \qquad Q_{ij} = w_i H_{ij} w_j

        summed over the weights of a unit; the diagonal of Q stands in h alone.
        """
        Q, slope = self.w[:, None] * self.H * self.w, -self.g * self.w
        if not self.single:
            m = len(self.cell)
            rows = Q.new_zeros(m, len(self.w)).index_add_(0, self.unit, Q)
            Q = Q.new_zeros(m, m).index_add_(1, self.unit, rows)
            slope = slope.new_zeros(m).index_add_(0, self.unit, slope)
        Q = (Q + Q.T) / 2
        linear = slope + Q.diagonal() / 2
        return Qubo(linear, Q.fill_diagonal_(0.0))

    def compensated(self, keep: Tensor) -> Tensor | None:
        """Weights that minimise the quadratic model where those outside ``keep``, ``(n,)`` bool, are zero: ``(n,)``.

        A least-squares problem in the kept weights, (H v)_K = (H w - g)_K. None if H is not positive definite.
        """
        v = torch.zeros_like(self.w)
        kept = keep.nonzero().flatten()
        right = (self.H @ self.w - self.g)[kept]
        factor, failed = torch.linalg.cholesky_ex(self.H[kept][:, kept])
        if int(failed):
            return None
        v[kept] = torch.cholesky_solve(right[:, None], factor)[:, 0]
        return v

    def energy(self, v: Tensor) -> float:
        """The model's value at the weights ``v``, ``(n,)``: the predicted change of the loss."""
        d = v - self.w
        return float(self.g @ d + d @ self.H @ d / 2)
