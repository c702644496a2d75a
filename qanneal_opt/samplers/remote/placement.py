"""A clique embedding as arrays: from couplings of variables to those of qubits, and back from qubits to bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qanneal_opt.samplers.base import SamplerError

__all__ = ["Placement"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the n variables of one problem sit.

    Ocean's ``embed_bqm`` and ``unembed_sampleset`` do the same from dictionaries. For 64 variables the first takes by
    itself longer than the 10 ms that all of a call may (``python -m benchmarks.embedding``); the second would decide
    a chain's tie the same way each time, where a draw needs a coin.

    Attributes:
        qubits: ``(q,)`` labels, chain after chain.
        owner: ``(q,)`` the variable of each.
        lengths: ``(n,)`` qubits of each chain.
        ends: ``(2, e)`` places in ``qubits`` that couplers connect: those of chains first, then those between chains.
        inner: how many couplers are within chains.
        share: ``(e - inner,)`` one over the couplers between the same two chains, which share a coupling evenly.
    """

    qubits: Array
    owner: Array
    lengths: Array
    ends: Array
    inner: int
    share: Array

    @staticmethod
    def of(clique: list[list[int]], edges: Array) -> Placement:
        """Arrays of a clique among the couplers ``edges`` ``(2, E)`` of a machine.

        Raises:
            SamplerError: a chain that is not connected, or two that no coupler connects.
        """
        n, lengths = len(clique), np.array([len(chain) for chain in clique])
        qubits = np.concatenate([np.asarray(chain, np.int64) for chain in clique])
        owner = np.repeat(np.arange(n), lengths)
        place = np.full(max(int(edges.max()), int(qubits.max())) + 1, -1)
        place[qubits] = np.arange(len(qubits))
        ends = place[edges]
        ends = ends[:, (ends >= 0).all(0)]  # (2, e)
        first, second = owner[ends]
        inside = first == second
        ends = np.concatenate([ends[:, inside], ends[:, ~inside]], 1)
        inner = int(inside.sum())
        low, high = np.sort(owner[ends[:, inner:]], axis=0)
        couplers = np.zeros((n, n), np.int64)
        np.add.at(couplers, (low, high), 1)
        links = coo_array((np.ones(inner), ends[:, :inner]), shape=(len(qubits), len(qubits)))
        whole = connected_components(links, directed=False)[0] == n
        if not whole or (couplers[np.triu_indices(n, 1)] == 0).any():
            raise SamplerError(f"an embedding of {n} variables does not fit the machine's graph")
        return Placement(qubits, owner, lengths, ends, inner, 1 / couplers[low, high])

    def program(self, fields: Array, couplings: Array, chain: float) -> tuple[Array, Array]:
        """Biases of qubits ``(q,)`` and of couplers ``(e,)`` for fields ``(n,)`` and couplings ``(n, n)`` of spins.

        A chain whose qubits agree then has the problem's energy, and each of its couplers gives ``-chain`` besides.
        """
        first, second = self.owner[self.ends[:, self.inner :]]
        between = couplings[first, second] * self.share
        return (fields / self.lengths)[self.owner], np.concatenate([np.full(self.inner, -chain), between])

    def at_qubits(self, couplings: Array) -> Array:
        """The sum ``(q,)`` of the couplings ``(e,)`` at each qubit."""
        first, second = self.ends
        sums: Array = np.bincount(first, couplings, len(self.qubits)) + np.bincount(second, couplings, len(self.qubits))
        return sums

    def spread(self, bits: Array) -> dict[int, int]:
        """The spin of each qubit for the bits ``(n,)`` of variables."""
        return dict(zip(self.qubits.tolist(), (2 * bits[self.owner].astype(np.int64) - 1).tolist()))

    def read(self, spins: Array, generator: np.random.Generator) -> tuple[Array, Array]:
        """Bits ``(R, n)`` by majority of the spins ``(R, q)``, a coin for a tie; and which chains were broken."""
        starts = np.cumsum(self.lengths) - self.lengths
        votes = np.add.reduceat(spins.astype(np.int64), starts, axis=1)  # (R, n)
        coins = generator.integers(2, size=votes.shape)
        return np.where(votes == 0, coins, votes > 0).astype(np.uint8), np.abs(votes) != self.lengths
