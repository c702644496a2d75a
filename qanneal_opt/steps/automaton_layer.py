"""The annealing of one automaton: a tree of prefixes, and as many states as their description is worth."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from qanneal_opt import threads
from qanneal_opt.nn.automaton import PAD, AutomatonLayer
from qanneal_opt.objective import Objective
from qanneal_opt.steps.rule_layer import Options, Result, description, per_error
from qanneal_opt.steps.rule_search import PIECES, Array
from qanneal_opt.steps.rule_tables import look, output_forced

Prefixes = tuple[Array, Array, Array]  # parent, symbol, gains of each


def prefixes(sequences: Array, symbols: int, gains: Array) -> Prefixes:
    """The tree of all prefixes of (N, L) sequences, the empty one first, and what ends at each."""
    node = np.zeros(len(sequences), np.int64)
    parent, symbol, count = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], 1
    for column in sequences.T:
        live = column != PAD
        pairs, place = np.unique(node[live] * symbols + column[live], return_inverse=True)
        parent.append(pairs // symbols)
        symbol.append(pairs % symbols)
        node[live] = count + place
        count += len(pairs)
    ends = np.bincount(node, weights=gains, minlength=count)
    return np.concatenate(parent), np.concatenate(symbol), ends


class AutomatonJob:
    """The annealing of one automaton: transitions by Metropolis moves, outputs at their best for each table."""

    def __init__(
        self, options: Options, layer: AutomatonLayer, objective: Objective, generator: torch.Generator
    ) -> None:
        self.options, self.layer, self.generator = options, layer, generator
        sequences = look(objective, layer).values.numpy()
        off, on = (look(objective, layer, output_forced(value)).losses for value in (0.0, 1.0))
        gains = (on - off).numpy()
        self.unit = float(np.abs(gains).mean()) or 1.0
        self.tree = prefixes(sequences, layer.symbols, gains / self.unit)
        self.count, self.wanted = len(sequences), float(np.minimum(gains, 0).sum()) / self.unit
        self.least = float(np.minimum(self.tree[2], 0).sum())  # where equal sequences disagree, more than `wanted`
        self.moves = self.accepted = 0

    def run(self) -> Result:
        """Try numbers of states from 1 on; keep the best score, the present automaton's included."""
        old = (self.layer.table.cpu().numpy().copy(), self.layer.outputs.cpu().numpy().copy())
        lowest = float(self._ended(old[0])[old[1]].sum())
        best, shortest = old, self._score(lowest, _used(old[0]))
        for states in range(1, self.layer.states + 1):
            table, energy = self._search(states, best[0])
            if self._score(energy, states) < shortest - 1e-9:
                best, lowest, shortest = (table, self._ended(table) < 0), energy, self._score(energy, states)
            if energy <= self.least + 1e-9:
                break
        self.layer.table.copy_(torch.from_numpy(best[0]))
        self.layer.outputs.copy_(torch.from_numpy(best[1]))
        moved = sum(int(np.count_nonzero(a != b)) for a, b in zip(old, best))
        before, after = (self._price(_used(table)) * self.unit for table, _ in (old, best))
        if self.options.l0 is None:
            # The description is concave in errors: with its slope at the end, a lower score is a lower sum as well.
            nats = per_error(lowest - self.wanted, self.count)
            before, after = before / nats, after / nats
        last = self.options.cooling.last * self.unit
        variables = self.layer.table.numel() + self.layer.outputs.numel()
        return Result(variables, self.moves, self.accepted, moved, before, after, last)

    def _score(self, energy: float, states: int) -> float:
        """Errors and the price of transitions; without a price the nats that describe both."""
        errors = energy - self.wanted
        return (description(errors, self.count) if self.options.l0 is None else errors) + self._price(states)

    def _price(self, states: int) -> float:
        """What transitions cost, in errors or nats."""
        each = math.log(max(states, 2)) if self.options.l0 is None else self.options.l0
        return states * self.layer.symbols * each

    def _search(self, states: int, start: Array) -> tuple[Array, float]:
        """The best table with so many states, of chains from random tables and one from ``start``."""
        from qanneal_opt.steps.kernels_automaton import anneal

        options = self.options
        parent, symbol, ends = (part.astype(np.uint32) for part in (*self.tree[:2], np.flatnonzero(self.tree[2])))
        out = np.zeros_like(start)
        if states == 1:
            return out, float(np.minimum(self.tree[2].sum(), 0))
        each = max(1, options.moves // self.layer.states // PIECES)
        heat = np.array([options.cooling.at(k, PIECES, 1.0) for k in range(PIECES)])
        seed = int(torch.randint(2**62, (), generator=self.generator))
        keys = np.random.SeedSequence(seed).generate_state(options.restarts, np.uint64)

        def chain(number: int, key: np.uint64) -> tuple[float, int, int, Array]:
            table = np.random.default_rng(key).integers(0, states, (states, self.layer.symbols)).astype(np.uint32)
            if number == 0 and start[:states].max() < states:
                table[:] = start[:states]
            best, scratch = table.copy(), (np.zeros(len(parent), np.uint32), np.zeros(states))
            tree = parent, symbol, ends, self.tree[2][ends]
            found = anneal(table, *tree, heat, each, self.least + 1e-9, key, *scratch, best)
            return (*found, best)

        found = list(threads.run([partial(chain, r, key) for r, key in enumerate(keys)], options.threads))
        self.moves += sum(one[1] for one in found)
        self.accepted += sum(one[2] for one in found)
        energy, _, _, table = min(found, key=lambda one: one[0])  # the first of equals
        out[:states] = table
        return out, energy

    def _ended(self, table: Array) -> Array:
        """The gains of what ends in each state."""
        parent, symbol, gains = self.tree
        state = np.zeros(len(parent), np.int64)
        for k in range(1, len(parent)):
            state[k] = table[state[parent[k]], symbol[k]]
        return np.bincount(state, weights=gains, minlength=len(table))


def _used(table: Array) -> int:
    """How many states there are, up to the last that can be reached from state 0."""
    reached = {0}
    while (more := reached | {int(q) for p in reached for q in table[p]}) != reached:
        reached = more
    return 1 + max(reached)
