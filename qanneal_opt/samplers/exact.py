"""Exact enumeration of all bit strings: ground states, and exact draws at a temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.checked import Answer, CheckedSeat
from qanneal_opt.samplers.request import Request

__all__ = ["MAX_VARIABLES", "Exact", "all_bits", "all_energies"]

MAX_VARIABLES = 20
"""Enumeration takes 2^n numbers: 8 MB at n = 20."""

Array = np.ndarray[Any, Any]


def all_bits(n: int) -> Array:
    """All bit strings, ``(2^n, n)`` uint8; row k is k in binary, the last bit fastest."""
    return unpack(np.arange(2**n), n)


def unpack(index: Array, n: int) -> Array:
    """Rows ``index`` of :func:`all_bits`, ``(R, n)`` uint8."""
    return ((index[:, None] >> np.arange(n - 1, -1, -1)) & 1).astype(np.uint8)


def all_energies(qubo: Qubo) -> Array:
    r"""Energies of all bit strings in the order of :func:`all_bits`, ``(2^n,)`` float64.

    With b = (u, v) split in halves, :math:`E(b) = E(u) + E(v) + u' Q_{uv} v`: two small enumerations and one
    matrix product instead of 2^n quadratic forms.

    >>> all_energies(Qubo([-1.0, 2.0], [[0.0, 5.0], [5.0, 0.0]])).tolist()
    [0.0, 2.0, -1.0, 6.0]
    """
    linear, quadratic = qubo.linear.cpu().numpy(), qubo.quadratic.cpu().numpy()
    h = qubo.n // 2

    def half(part: slice) -> tuple[Array, Array]:
        bits = all_bits(len(linear[part])).astype(np.float64)  # (2^k, k)
        return bits, bits @ linear[part] + ((bits @ quadratic[part, part]) * bits).sum(1) / 2

    (u, of_u), (v, of_v) = half(slice(0, h)), half(slice(h, None))
    energies: Array = u @ quadratic[:h, h:] @ v.T + of_u[:, None] + of_v  # (2^h, 2^(n - h))
    return energies.ravel() + float(qubo.offset)


class Exact(CheckedSeat):
    """Enumerates all 2^n bit strings, for n up to 20.

    At ``temperature=None`` it gives the best ``num_reads`` distinct states (2^n of them at the most), at a
    temperature T independent draws from exactly exp(-E/T).

    >>> Exact().sample_arrays(Qubo([-1.0, 2.0], [[0.0, 5.0], [5.0, 0.0]]), num_reads=3).energies.tolist()
    [-1.0, 0.0, 2.0]
    """

    name = "exact"
    draws_at_temperature = True

    @property
    def parameters(self) -> Mapping[str, Any]:
        """``num_reads``, ``seed`` and ``temperature``."""
        return {"num_reads": [], "seed": [], "temperature": []}

    def _answers(self, request: Request) -> list[Answer]:
        n = request.qubo.n
        if n > MAX_VARIABLES:
            raise ValueError(f"Invalid qubo: {n} variables; 'exact' enumerates at most {MAX_VARIABLES}")
        return [(self._draw(request.problem(i)), {}) for i in range(request.problems)]

    def _draw(self, request: Request) -> Array:
        energies = all_energies(request.qubo)  # (2^n,)
        if request.temperature is None:
            if request.reads < len(energies):
                index = np.argpartition(energies, request.reads - 1)[: request.reads]
            else:
                index = np.arange(len(energies))
        else:
            cumulated = np.cumsum(np.exp((energies.min() - energies) / request.temperature))  # (2^n,)
            uniform = np.random.default_rng(request.seeds[0]).random(request.reads)  # (R,)
            # a product with the total may round up to it, past the last state
            index = np.minimum(np.searchsorted(cumulated, uniform * cumulated[-1], side="right"), len(energies) - 1)
        return unpack(index, request.qubo.n)
