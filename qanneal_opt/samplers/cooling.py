"""Temperatures of an annealing, from the scale of the problem itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.samplers.layout import Dense

__all__ = ["drawing", "minimising"]

Array = np.ndarray[Any, Any]

# In units of the median row norm, measured on dense random problems, n = 256 to 3000, and on random max-cut.
_HOT, _COLD = 0.2, 0.02
# The same for words of 2 to 8 bits, on random quadratic models of 10 to 128 weights: levels are near each other.
_WORDS_HOT, _WORDS_COLD = 0.05, 0.0005


def minimising(dense: Dense, sweeps: int, word: int) -> Array:
    """Temperatures that fall geometrically, ``(B, S)`` float32 in the layout's units."""
    hot, cold = (_HOT, _COLD) if word == 1 else (_WORDS_HOT, _WORDS_COLD)
    place = np.arange(sweeps) / max(sweeps - 1, 1)  # (S,)
    temperatures: Array = np.multiply.outer(dense.scale, hot * (cold / hot) ** place).astype(np.float32)
    return temperatures


def drawing(dense: Dense, temperature: float, sweeps: int) -> Array:
    """Temperatures that fall to ``temperature`` in the first half and stay there, as :func:`minimising`."""
    # in Python's floats, which overflow to infinity without a warning
    last = np.array([min(max(temperature / unit, 1e-30), 1e30) for unit in dense.unit.tolist()])  # (B,)
    first = np.maximum(2 * _HOT * dense.scale, last)
    fall = np.minimum(np.arange(sweeps) / max(sweeps // 2, 1), 1.0)  # (S,), 1 from the middle on
    temperatures: Array = (first[:, None] * (last / first)[:, None] ** fall).astype(np.float32)
    return temperatures
