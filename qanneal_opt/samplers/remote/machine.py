"""A quantum annealer as its seat sees it: graph, ranges, what a submission would cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qanneal_opt.samplers.base import SamplerError
from qanneal_opt.samplers.remote.attempts import Declined
from qanneal_opt.samplers.remote.embeddings import Embeddings, graph_key
from qanneal_opt.samplers.remote.placement import Placement

__all__ = ["Machine"]

Array = np.ndarray[Any, Any]

# Microseconds of a submission and of a read beside its annealing, where a solver does not tell its own.
_PROGRAMMING, _READOUT, _ANNEALING = 8500.0, 62.0, 20.0


class Machine:
    """A ``DWaveSampler``, or what has the same nodes, edges, properties and ``sample``.

    Args:
        sampler: it; a solver's graph and properties are asked for once.
        folder: of the cache of embeddings, or ``None`` for none.
    """

    def __init__(self, sampler: Any, folder: Path | None) -> None:
        self.sampler = sampler
        self._folder = folder
        self._placements: dict[int, tuple[int, list[Placement]]] = {}  # n -> how many were asked for, and fit

    @cached_property
    def properties(self) -> Mapping[str, Any]:
        """The solver's properties."""
        return dict(self.sampler.properties)

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of what a submission may carry."""
        return frozenset(self.sampler.parameters)

    @property
    def name(self) -> str:
        """The solver's name."""
        return str(self.properties.get("chip_id", type(self.sampler).__name__))

    @property
    def topology(self) -> str:
        """Its kind and shape."""
        topology = self.properties["topology"]
        return f"{topology['type']} {'x'.join(str(size) for size in topology['shape'])}"

    @cached_property
    def _edges(self) -> Array:
        return np.array(self.sampler.edgelist, dtype=np.int64).reshape(-1, 2).T  # (2, E)

    @cached_property
    def embeddings(self) -> Embeddings:
        """Of cliques in this solver's graph."""
        topology = self.properties["topology"]
        key = graph_key(topology["type"], topology["shape"], self.sampler.nodelist, self._edges)
        return Embeddings(self.sampler.to_networkx_graph(), key, self._folder)

    def placements(self, n: int, count: int) -> list[Placement]:
        """Up to ``count`` disjoint places for ``n`` variables each, as many as fit.

        Raises:
            Declined: not even one fits.
        """
        asked, placed = self._placements.get(n, (0, []))
        if asked < count:
            try:
                placed = self._placed(n, count)
            except SamplerError:  # the kept ones are not of this graph
                self.embeddings.forget(n)
                placed = self._placed(n, count)
            self._placements[n] = (count, placed)
        if not placed:
            raise Declined(f"no clique of {n} variables fits {self.name} ({self.topology})")
        return placed[:count]

    def _placed(self, n: int, count: int) -> list[Placement]:
        return [Placement.of(clique, self._edges) for clique in self.embeddings.cliques(n, count)]

    def largest_scale(self, placement: Placement, fields: Array, couplings: Array) -> float:
        """The factor by which biases of qubits ``(q,)`` and couplers ``(e,)`` may grow within the machine's ranges."""
        strongest = self.properties.get("extended_j_range", self.properties.get("j_range", (-1.0, 1.0)))
        room = [_room(fields, self.properties.get("h_range", (-2.0, 2.0))), _room(couplings, strongest)]
        qubit, group = (self.properties.get(f"per_{what}_coupling_range") for what in ("qubit", "group"))
        if qubit is not None:
            room.append(_room(placement.at_qubits(couplings), qubit))
        if group is not None:  # a group is some of a qubit's couplers: its sum is between these
            parts = [placement.at_qubits(part(couplings, 0.0)) for part in (np.minimum, np.maximum)]
            room.append(_room(np.concatenate(parts), group))
        return min(room)

    def reads(self, wanted: int) -> int:
        """``wanted`` within what one submission may ask for."""
        low, high = self.properties.get("num_reads_range", (1, 10_000))
        return int(min(max(wanted, low), high))

    def seconds(self, qubits: int, parameters: Mapping[str, Any]) -> float:
        """Estimated time that a submission occupies the annealer: the solver's own model, or typical figures."""
        estimate = getattr(getattr(self.sampler, "solver", None), "estimate_qpu_access_time", None)
        if estimate is not None:
            try:
                return float(estimate(num_qubits=qubits, **parameters)) / 1e6
            except (KeyError, ValueError, TypeError):  # no timing data, or a later version of them
                pass
        schedule = parameters.get("anneal_schedule")
        annealing = parameters.get("annealing_time") or (schedule[-1][0] if schedule else _ANNEALING)
        return float(_PROGRAMMING + parameters["num_reads"] * (annealing + _READOUT)) / 1e6

    def other(self, make: Callable[[], Any]) -> Machine:
        """The next solver of the user's preference, or what ``make`` gives now; asks the network."""
        if not hasattr(self.sampler, "trigger_failover"):
            return Machine(make(), self._folder)
        self.sampler.trigger_failover()
        return Machine(self.sampler, self._folder)


def _room(values: Array, limits: Any) -> float:
    """By what factor ``values`` may grow within ``limits``, which lie around zero."""
    low, high = float(limits[0]), float(limits[1])
    least, most = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return min(low / least if least < 0 else np.inf, high / most if most > 0 else np.inf)
