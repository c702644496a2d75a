"""Temperatures of an annealing, from the scale of the problem itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.samplers.layout import Layout

__all__ = ["drawing", "minimising"]

Array = np.ndarray[Any, Any]

# In units of the median row norm, measured on dense random problems, n = 256 to 3000, and on random max-cut.
_HOT, _COLD = 0.2, 0.02


def minimising(layout: Layout, sweeps: int) -> Array:
    """Temperatures that fall geometrically, ``(B, S)`` float32 in the layout's units."""
    place = np.arange(sweeps) / max(sweeps - 1, 1)  # (S,)
    temperatures: Array = np.multiply.outer(layout.scale, _HOT * (_COLD / _HOT) ** place).astype(np.float32)
    return temperatures


def drawing(layout: Layout, temperature: float, sweeps: int) -> Array:
    """Temperatures that fall to ``temperature`` in the first half and stay there, as :func:`minimising`."""
    # in Python's floats, which overflow to infinity without a warning
    last = np.array([min(max(temperature / unit, 1e-30), 1e30) for unit in layout.unit.tolist()])  # (B,)
    first = np.maximum(2 * _HOT * layout.scale, last)
    fall = np.minimum(np.arange(sweeps) / max(sweeps // 2, 1), 1.0)  # (S,), 1 from the middle on
    temperatures: Array = (first[:, None] * (last / first)[:, None] ** fall).astype(np.float32)
    return temperatures
