"""What of a QUBO matters at a temperature: bits that are certain are taken out, and couplings that never act."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qanneal_opt.qubo import Qubo

__all__ = ["Reduced"]

Array = np.ndarray[Any, Any]

MARGIN = 12.0
"""A state that costs this many temperatures more than another one counts as never met: exp(-12) is 6e-6."""


@dataclass(frozen=True, eq=False)
class Reduced:
    r"""A QUBO with smaller numbers and fewer bits, and nearly the same draws at a temperature T.

    A machine's ranges would be filled by prices that no draw ever pays. With :math:`c = 12` and
    :math:`m_i = \sum_j \min(0, Q_{ij})`, whatever the other bits are,

    - bit i is 0 where :math:`l_i + m_i > cT`, as setting it costs at least that, and 1 where
      :math:`l_i + \sum_j \max(0, Q_{ij}) < -cT`;
    - bits i and j are not both 1 where
      :math:`p_{ij} = l_i + l_j + Q_{ij} + (m_i - \min(0, Q_{ij})) + (m_j - \min(0, Q_{ij})) > cT`, and :math:`Q_{ij}`
      may be anything that leaves it so: the number nearest to zero is taken.

    Each makes more of the others so, until nothing changes. What is left has its draws to within about
    :math:`n^2 \exp(-c)` in total variation.

    Attributes:
        bits: ``(n,)`` uint8, the certain bits; 0 where a bit is not.
        kept: ``(m,)`` places of the bits that are left, at least one.
        linear: ``(m,)``.
        quadratic: ``(m, m)``.

    >>> reduced = Reduced.of(Qubo([-1.0, 90.0, 0.5], [[0.0, 0.0, 80.0], [0.0, 0.0, 0.0], [80.0, 0.0, 0.0]]), 1.0)
    >>> reduced.kept.tolist(), reduced.quadratic.tolist()
    ([0, 2], [[0.0, 12.5], [12.5, 0.0]])
    """

    bits: Array
    kept: Array
    linear: Array
    quadratic: Array

    @staticmethod
    def of(qubo: Qubo, temperature: float | None) -> Reduced:
        """Of one problem, at a temperature in units of its energies; ``None`` leaves it as it is."""
        linear, quadratic = qubo.linear.cpu().numpy(), qubo.quadratic.cpu().numpy()
        bits, kept = np.zeros(qubo.n, np.uint8), np.arange(qubo.n)
        if temperature is None:
            return Reduced(bits, kept, linear, quadratic)
        limit = MARGIN * temperature
        while True:
            quadratic, loosened = _loosened(linear, quadratic, limit)
            off = linear + np.minimum(quadratic, 0).sum(1) > limit
            on = linear + np.maximum(quadratic, 0).sum(1) < -limit
            free = ~(off | on)
            if not free.any():
                free[0] = True  # something has to be drawn
            if free.all():
                if loosened:
                    continue
                return Reduced(bits, kept, linear, quadratic)
            bits[kept[on & ~free]] = 1
            linear = (linear + quadratic[:, on & ~free].sum(1))[free]
            quadratic, kept = quadratic[np.ix_(free, free)], kept[free]

    def restored(self, drawn: Array) -> Array:
        """Bits ``(R, n)`` of the whole problem for draws ``(R, m)`` of what is left."""
        whole = np.repeat(self.bits[None], len(drawn), 0)
        whole[:, self.kept] = drawn
        return whole


def _loosened(linear: Array, quadratic: Array, limit: float) -> tuple[Array, bool]:
    """Couplings nearer to zero where both bits are never 1, and whether there were any."""
    below = np.minimum(quadratic, 0)
    least = linear + below.sum(1)
    rest = least[:, None] + least - 2 * below  # the pair's price at the least, its own coupling left out
    nearest = np.clip(limit - rest, 0, None)  # how strong a coupling has to be to keep the pair out
    never = (rest + quadratic > limit) & (np.abs(quadratic) > nearest * (1 + 1e-9))
    np.fill_diagonal(never, False)
    return np.where(never, nearest, quadratic), bool(never.any())
