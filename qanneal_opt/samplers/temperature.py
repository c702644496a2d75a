"""The temperature that samples were drawn at, whatever drew them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.floats import as_tensor
from qanneal_opt.qubo import Qubo

__all__ = ["estimate_temperature", "expected_excitations"]

_STEPS = 100  # Newton needs about 10, halving in its place 60


def estimate_temperature(qubo: Qubo, bits: Any) -> float:
    r"""The temperature T at which ``bits`` look most like draws from :math:`\exp(-E/T)`.

    With :math:`d_{ri}` the price of flipping bit i of sample r, that bit given all others is what it is with
    probability :math:`1 / (1 + \exp(-d_{ri} / T))`. Their product over all bits and samples, the
    pseudo-likelihood (Besag, "Statistical analysis of non-lattice data", 1975), is largest where

    .. math:: \sum_{ri} \frac{d_{ri}}{1 + \exp(\beta d_{ri})} = 0, \qquad \beta = 1/T.

    It is concave in :math:`\beta`, knows no partition function, and its maximum tends to the true one as samples
    grow in number. Samples of one problem need not be independent. Samplers with other moves (a fixed
    number of ones) do not draw single bits, and their T is not found this way.

    Args:
        qubo: one problem, or a batch drawn at one temperature.
        bits: zeros and ones, ``(R, n)`` or for a batch ``(B, R, n)``.

    Returns:
        T in units of the energies: 0.0 if no flip would lower an energy, infinity if states are no lower
        than random ones, NaN if nothing can be told, as all flips are free.

    Raises:
        ValueError: another shape, or an entry other than 0 and 1.

    >>> from qanneal_opt.samplers import Exact
    >>> qubo = Qubo([-1.0, 2.0], [[0.0, 1.5], [1.5, 0.0]])
    >>> drawn = Exact().sample_arrays(qubo, num_reads=20_000, seed=0, temperature=2.0)
    >>> 1.9 < estimate_temperature(qubo, drawn.bits) < 2.1
    True
    """
    prices = _prices(qubo, bits)
    scale = float(prices.abs().max()) if len(prices) else 0.0
    if scale == 0:
        return math.nan
    prices = prices / scale
    if bool((prices >= 0).all()):
        return 0.0
    if float(prices.sum()) <= 0:
        return math.inf
    low, high, beta = 0.0, math.inf, 1.0
    for _ in range(_STEPS):
        chance = torch.sigmoid(-beta * prices)
        slope = float((prices * chance).sum())
        bend = float((prices**2 * chance * (1 - chance)).sum())
        low, high = (beta, high) if slope > 0 else (low, beta)
        step = beta + slope / bend if bend > 0 else math.inf
        if not low < step < high:  # outside of what is known to hold the maximum
            step = 2 * beta if high == math.inf else (low + high) / 2
        if abs(step - beta) <= 1e-9 * beta:
            break
        beta = step
    return scale / beta


def expected_excitations(qubo: Qubo, bits: Any, temperature: float) -> float:
    """How many of ``bits`` would be expected in the dearer of their two states at a temperature, the others given."""
    return float(torch.sigmoid(-_prices(qubo, bits).abs() / temperature).sum())


def _prices(qubo: Qubo, bits: Any) -> Tensor:
    """What each flip of each bit costs, flat."""
    states = as_tensor(bits).to(qubo.linear.device)
    qubo.energies(states)  # says what is wrong with them
    b = states.to(torch.float64)
    linear = qubo.linear if qubo.batch is None else qubo.linear[:, None]  # (n,) or (B, 1, n)
    return ((1 - 2 * b) * (linear + b @ qubo.quadratic)).flatten()
