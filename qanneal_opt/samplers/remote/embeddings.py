"""Embeddings of cliques in a machine's graph, found once and kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Embeddings", "cache_folder", "graph_key"]

VERSION = 1
# minorminer 0.2.22 runs out of memory on cliques of 5 to 8 in Zephyr and of 3 and 4 in Chimera with missing qubits;
# larger ones contain them.
_LEAST = 9

Clique = list[list[int]]
"""The qubits of each chain."""


def cache_folder() -> Path | None:
    """Where embeddings are kept: ``$QANNEAL_OPT_CACHE``, or ``qanneal_opt`` in the user's cache folder."""
    override = os.environ.get("QANNEAL_OPT_CACHE")
    if override:
        return Path(override)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qanneal_opt"
    except RuntimeError:  # no home
        return None


def graph_key(kind: str, shape: Any, nodes: Any, edges: Any) -> str:
    """A hash of a topology and of the qubits and couplers that work."""
    digest = hashlib.sha256(f"{kind} {list(shape)}".encode())
    for part in (nodes, edges):
        digest.update(np.ascontiguousarray(part, dtype=np.int64).tobytes())
    return digest.hexdigest()[:32]


class Embeddings:
    """Disjoint embeddings of the complete graph of n variables in one machine's graph.

    A file a graph and size, replaced as a whole, so that processes which write at once leave one of their files; what
    cannot be read is found anew. Without a folder that can be written they are kept in memory.

    Args:
        graph: a networkx graph of dwave-graphs: Chimera, Pegasus or Zephyr.
        key: names it, as :func:`graph_key` does.
        folder: of the cache, or ``None`` for none.
    """

    def __init__(self, graph: Any, key: str, folder: Path | None) -> None:
        self._graph = graph
        self._key = key
        self._folder = None if folder is None else folder / f"embeddings-v{VERSION}" / key
        self._known: dict[int, tuple[list[Clique], bool]] = {}  # n -> cliques, whether no more fit

    def cliques(self, n: int, count: int = 1) -> list[Clique]:
        """Up to ``count`` disjoint cliques of ``n`` chains, as many as fit; the first has the shortest chains."""
        found, complete = self._known.get(n) or self._read(n)
        if len(found) < count and not complete:
            found, complete = self._more(n, found, count)
            self._write(n, found, complete)
        self._known[n] = (found, complete)
        return found[:count]

    def largest(self) -> dict[int, int]:
        """The largest clique that chains of each length can hold, as long as longer chains hold more."""
        from minorminer.busclique import find_clique_embedding

        lengths: dict[int, int] = {}  # n -> the longest chain; more than the graph where none is found

        def length(n: int) -> int:
            if n not in lengths:
                chains = find_clique_embedding(n, self._graph, use_cache=False, seed=0)
                lengths[n] = max(map(len, chains.values())) if chains else len(self._graph) + 1
            return lengths[n]

        largest: dict[int, int] = {}
        n = _LEAST - 1
        while length(n + 1) <= len(self._graph):
            chain, inside, outside = length(n + 1), n + 1, n + 2
            while length(outside) <= chain:
                inside, outside = outside, 2 * outside
            while outside - inside > 1:
                middle = (inside + outside) // 2
                inside, outside = (middle, outside) if length(middle) <= chain else (inside, middle)
            largest[chain] = n = inside
        return largest

    def cached(self) -> dict[int, int]:
        """How many cliques of each size are on disk for this graph."""
        paths = [] if self._folder is None else self._folder.glob("clique-*.json")
        sizes = sorted(int(path.stem.partition("-")[2]) for path in paths if path.stem.partition("-")[2].isdigit())
        counts = {n: len(self._read(n)[0]) for n in sizes}
        return {n: count for n, count in counts.items() if count}

    def forget(self, n: int) -> None:
        """Drop what is known of cliques of ``n``, from the disk as well."""
        self._known.pop(n, None)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(n).unlink(missing_ok=True)

    def _more(self, n: int, found: list[Clique], count: int) -> tuple[list[Clique], bool]:
        """Find further cliques, each among the qubits that the others leave."""
        from minorminer.busclique import find_clique_embedding

        graph, cliques = self._graph.copy(), list(found)
        graph.remove_nodes_from(qubit for clique in found for chain in clique for qubit in chain)
        while len(cliques) < count:
            # a seed, as the default draws on Python's global generator
            chains = find_clique_embedding(max(n, _LEAST), graph, use_cache=False, seed=0)
            if not chains:
                return cliques, True
            shortest = sorted(([int(qubit) for qubit in chain] for chain in chains.values()), key=len)[:n]
            cliques.append(shortest)
            graph.remove_nodes_from(qubit for chain in shortest for qubit in chain)
        return cliques, False

    def _path(self, n: int) -> Path:
        assert self._folder is not None
        return self._folder / f"clique-{n}.json"

    def _read(self, n: int) -> tuple[list[Clique], bool]:
        """What the file says, or nothing where it is missing or damaged."""
        if self._folder is None:
            return [], False
        try:
            kept = json.loads(self._path(n).read_text(encoding="utf-8"))
            cliques = [[[int(qubit) for qubit in chain] for chain in clique] for clique in kept["cliques"]]
            qubits = [qubit for clique in cliques for chain in clique for qubit in chain]
            right = kept["version"] == VERSION and kept["graph"] == self._key and all(len(c) == n for c in cliques)
            if right and len(set(qubits)) == len(qubits) and all(qubit in self._graph for qubit in qubits):
                return cliques, bool(kept["complete"])
        except Exception:  # a damaged file may be anything: numbers without end, lists without end
            pass
        return [], False

    def _write(self, n: int, cliques: list[Clique], complete: bool) -> None:
        """Write a file of another name and put it in the place of the old one."""
        if self._folder is None:
            return
        kept = {"version": VERSION, "graph": self._key, "complete": complete, "cliques": cliques}
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(kept, file)
                os.replace(name, self._path(n))
            except OSError:
                Path(name).unlink(missing_ok=True)
