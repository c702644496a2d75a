"""Temperatures of an annealing, from the scales of the problem itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.samplers.layout import Layout

__all__ = ["drawing", "minimising"]

Array = np.ndarray[Any, Any]

# In units of norms of rows. Spins with couplings of random sign freeze near 1/4 of the norm, at lower temperatures the
# stronger fields hold them (de Almeida and Thouless, "Stability of the Sherrington-Kirkpatrick solution of a spin glass
# model", 1978): sweeps above that are wasted. Chosen on problems of the kinds that `benchmarks.solvers` races.
_HOT, _COLD = 0.21, 0.015
_LEAST = 0.1  # of the median norm: for rows with less nothing is cooled further
_SPAN = 4.0  # of hot over cold, at least
# For words of several bits: levels are near each other, so that differences of energy are small.
_WORDS_HOT, _WORDS_COLD = 0.05, 0.0005
_WARM = 0.4  # where draws begin


def minimising(layout: Layout, sweeps: int, *, word: int = 1, fields: bool = True) -> Array:
    """Temperatures that fall geometrically, ``(B, S)`` float32 in the layout's units.

    With ``fields`` they begin the lower, the stronger fields are; with a fixed number of ones these mean little.
    """
    middle, least, field = (layout.scales[:, k, None] for k in range(3))  # (B, 1) each
    if word > 1:
        hot, cold = _WORDS_HOT * middle, _WORDS_COLD * middle
    else:
        cold = _COLD * np.maximum(least, _LEAST * middle)
        hot = np.maximum(_HOT * middle / (1 + field * fields), _SPAN * cold)
    place = np.arange(sweeps) / max(sweeps - 1, 1)  # (S,)
    return np.asarray(hot * (cold / hot) ** place, np.float32)


def drawing(layout: Layout, temperature: float, sweeps: int) -> Array:
    """Temperatures that fall to ``temperature`` in the first half and stay there, as :func:`minimising`."""
    # in Python's floats, which overflow to infinity without a warning
    last = np.array([min(max(temperature / unit, 1e-30), 1e30) for unit in layout.unit.tolist()])  # (B,)
    first = np.maximum(_WARM * layout.scales[:, 0], last)
    fall = np.minimum(np.arange(sweeps) / max(sweeps // 2, 1), 1.0)  # (S,), 1 from the middle on
    return np.asarray(first[:, None] * (last / first)[:, None] ** fall, np.float32)
