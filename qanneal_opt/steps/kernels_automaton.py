"""Compiled annealing of a table of transitions over a tree of prefixes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qanneal_opt.rng import GOLDEN, below, uniform
from qanneal_opt.simd import compiled, entry
from qanneal_opt.steps.kernels_bits import Array

STEP = np.uint64(5)  # numbers a move may draw


@compiled
def energy(table: Array, parent: Array, symbol: Array, ends: Array, gains: Array, state: Array, totals: Array) -> float:
    """Give the energy of a table with the best outputs: each state gives 1 where the gains that end there are below 0.

    ``state``, of each prefix, and ``totals``, of gains by state, are written.
    """
    state[0] = 0
    for k in range(1, len(parent)):
        state[k] = table[state[parent[k]], symbol[k]]
    totals[:] = 0
    for e in range(len(ends)):
        totals[state[ends[e]]] += gains[e]
    result = 0.0
    for total in totals:
        result += min(total, 0.0)
    return result


@entry
def anneal(
    table: Array, parent: Array, symbol: Array, ends: Array, gains: Array, temperatures: Array, each: int,
    least: float, key: np.uint64, state: Array, totals: Array, best: Array,
) -> Any:  # fmt: skip
    """Anneal a table by transitions that are led to another state; ``best`` gets the one of the lowest energy.

    Args:
        table: (Q, A) uint32, with Q > 1. Unsigned numbers are not asked whether they count from the end.
        parent: (M,) uint32: prefix k is prefix ``parent[k]`` < k and a symbol; prefix 0 is empty.
        symbol: (M,) uint32.
        ends: (E,) uint32: prefixes that are whole sequences.
        gains: (E,) float64: of these sequences.
        temperatures: one for ``each`` moves; 0 accepts what does not raise the energy.
        each: moves at a temperature.
        least: energy at which nothing is left to gain.
        key: of the random numbers.
        state: (M,) uint32, scratch.
        totals: (Q,) float64, scratch.
        best: (Q, A) uint32.

    Returns: the lowest energy, how many moves were made, and how many accepted.
    """
    states, symbols = table.shape
    counter, made, taken = key, 0, 0
    now = lowest = energy(table, parent, symbol, ends, gains, state, totals)
    best[:] = table
    for temperature in temperatures:
        for _ in range(each):
            if lowest <= least:
                return lowest, made, taken
            counter += GOLDEN * STEP
            made += 1
            q, a = below(counter, states), below(counter + GOLDEN, symbols)
            old = table[q, a]
            table[q, a] = (np.int64(old) + 1 + below(counter + GOLDEN + GOLDEN, states - 1)) % states
            then = energy(table, parent, symbol, ends, gains, state, totals)
            change = then - now
            if change > 0.0 and not (
                temperature > 0.0 and uniform(counter + GOLDEN * np.uint64(3)) < math.exp(-change / temperature)
            ):
                table[q, a] = old
                continue
            now = then
            taken += 1
            if now < lowest - 1e-9:
                lowest = now
                best[:] = table
    return lowest, made, taken
