"""A stand-in for a quantum annealer: the graph, ranges and timing of one, and spins at a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from dimod import SampleSet
from dimod.core.sampler import Sampler
from dimod.core.structured import Structured
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer

__all__ = ["MockMachine"]

Array = np.ndarray[Any, Any]

_PROGRAMMING, _READ = 8468.2, 82.08  # microseconds, as dwave.system.testing has them


class MockMachine(Sampler, Structured):
    """``dwave.system.testing.MockDWaveSampler`` with draws at a temperature, and chains that break by chance.

    It knows the chains of clique embeddings by their couplers, which all have one value. A real machine freezes at
    a temperature that differs from problem to problem; this one does not. Its ``qpu_access_time`` grows with the
    number of reads.

    Args:
        topology: ``"pegasus"``, ``"zephyr"`` or ``"chimera"``.
        shape: its size.
        temperature: of the draws, in units of programmed couplings.
        broken: qubits that do not work.
        seed: of all draws, in turn.
    """

    nodelist: Any = None
    edgelist: Any = None
    properties: Any = None
    parameters: Any = None

    def __init__(
        self,
        topology: str = "pegasus",
        shape: Sequence[int] = (16,),
        *,
        temperature: float = 0.16,
        broken: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        from dwave.system.testing import MockDWaveSampler

        self.qubits = _Qubits(temperature, seed)
        self._mock: Any = MockDWaveSampler(
            topology_type=topology,
            topology_shape=list(shape),
            broken_nodes=list(broken),
            parameter_warnings=False,
            substitute_sampler=self.qubits,
        )
        self.nodelist, self.edgelist = self._mock.nodelist, self._mock.edgelist
        self.properties, self.parameters = self._mock.properties, self._mock.parameters

    def to_networkx_graph(self) -> Any:
        """The graph, with what dwave-graphs knows of it."""
        return self._mock.to_networkx_graph()

    def sample(self, bqm: Any, **parameters: Any) -> Any:
        """Draw; takes what a solver takes."""
        answer = self._mock.sample(bqm, **parameters)
        sampling = _READ * parameters.get("num_reads", 1)
        times = {"qpu_sampling_time": sampling, "qpu_access_time": _PROGRAMMING + sampling}
        answer.info["timing"] |= times
        return answer


class _Qubits(Sampler):
    """Draws whose chains move as a whole, and whose qubits leave their chains by chance."""

    properties: Any = {}  # noqa: RUF012
    parameters: Any = {"num_reads": []}  # noqa: RUF012

    def __init__(self, temperature: float, seed: int) -> None:
        self.temperature = temperature
        self._annealer = Annealer()
        self._random = np.random.default_rng(seed)

    def sample(self, bqm: Any, *, num_reads: int = 1, **others: Any) -> SampleSet:
        """Draw ``num_reads`` times from ``exp(-E / temperature)``, as far as annealing gets there."""
        labels = list(bqm.variables)
        vectors = bqm.to_numpy_vectors(variable_order=labels)
        fields, (rows, columns, values) = vectors.linear_biases, vectors.quadratic
        chained = _chained(len(labels), rows, columns, values)
        links = (np.ones(chained.sum()), (rows[chained], columns[chained]))
        count, owner = connected_components(coo_array(links, shape=2 * (len(labels),)), directed=False)
        couplings = np.zeros((count, count))
        np.add.at(couplings, (owner[rows[~chained]], owner[columns[~chained]]), values[~chained])
        np.fill_diagonal(couplings, 0.0)  # within a chain it is a constant
        qubo = _of_spins(np.bincount(owner, fields, count), couplings + couplings.T)
        drawn = self._annealer.sample_arrays(
            qubo, num_reads=num_reads, seed=int(self._random.integers(2**31)), temperature=self.temperature
        )
        order = self._random.permutation(num_reads)
        spins = 2 * drawn.bits.numpy()[order][:, owner].astype(np.int8) - 1  # (R, q)
        held = np.zeros(len(labels))  # strength of the chain at each qubit
        for ends in (rows[chained], columns[chained]):
            np.subtract.at(held, ends, values[chained])
        leaves = self._random.random(spins.shape) < expit(-2 * held / self.temperature)
        spins[leaves & (held > 0)] *= -1
        make: Any = SampleSet.from_samples_bqm  # not annotated
        samples: SampleSet = make((spins, labels), bqm)
        return samples


def _chained(count: int, rows: Array, columns: Array, values: Array) -> Array:
    """Which couplers hold chains together: in each problem those of the negative value that has the largest sum."""
    whole = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    problem = connected_components(whole, directed=False)[1][rows]
    chained = np.zeros(len(rows), bool)
    for k in np.unique(problem):
        mine = problem == k
        levels, times = np.unique(values[mine & (values < 0)], return_counts=True)
        if len(levels):
            chained |= mine & (values == levels[np.argmin(levels * times)])
    return chained


def _of_spins(fields: Array, couplings: Array) -> Qubo:
    """Energies of spins s = 2b - 1 as a Qubo, but for a constant."""
    return Qubo(torch.from_numpy(2 * fields - 2 * couplings.sum(1)), torch.from_numpy(4 * couplings))
