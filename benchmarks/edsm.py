"""Automata by merging states of a tree of prefixes: the control.

Evidence-driven state merging in blue-fringe order (Lang, Pearlmutter and Price, 1998). States that stay are red, and
what they lead to is blue. The shallowest blue state that fits no red one becomes red; where all of them fit one, the
merge with the highest score is made, and what follows the blue state is folded into what follows the red one.

The score is the logarithm of a Bayes factor: that strings which end in merged states have one label, against one of
each state's own, where a share `noise` of labels is flipped and both labels are as likely,

    score = sum over merged pairs of log m(p and q) - log m(p) - log m(q),
    m(a, b) = ((1 - noise)^a noise^b + noise^a (1 - noise)^b) / 2

for a and b labels of each kind. Without noise it is Lang's: log 2 for each label that agrees, and never a merge of two
that do not. Of several shares of noise the one is taken whose automaton has the shortest description.
"""

from dataclasses import dataclass
from math import exp, inf, log, log1p

import numba
import numpy as np

from qanneal_opt.steps.automaton_layer import prefixes
from qanneal_opt.steps.rule_layer import description

Array = np.ndarray
Automaton = tuple[Array, Array]  # table (Q, symbols), outputs (Q,) bool


@dataclass(frozen=True)
class Setting:
    """The shares of flipped labels to try, and the least score of a merge."""

    noises: tuple[float, ...]
    threshold: float


def learn(strings: Array, labels: Array, setting: Setting, symbols: int = 2) -> Automaton:
    """An automaton from strings (N, L), padded with -1, and labels (N,) of 0 and 1."""
    found = [merge(strings, labels, noise, setting.threshold, symbols) for noise in setting.noises]
    return min(found, key=lambda one: description(one[2], len(labels)) + one[0].size * log(max(len(one[0]), 2)))[:2]


def merge(strings: Array, labels: Array, noise: float, threshold: float, symbols: int) -> tuple[Array, Array, float]:
    """An automaton and how many labels it gets wrong. A transition that no string takes stays where it is."""
    parent, symbol, ones = prefixes(strings, symbols, labels)
    counts = np.stack([prefixes(strings, symbols, 1 - labels)[2], ones], 1)  # (M, 2): zeros and ones that end there
    if noise == 0 and (counts > 0).all(1).any():
        raise ValueError("Invalid noise: 0; equal strings have different labels")
    child = np.full((len(parent), symbols), -1)
    child[parent[1:], symbol[1:]] = np.arange(1, len(parent))
    red = [0]
    while fringe := sorted(
        (int(child[p, a]), p, a) for p in red for a in range(symbols) if child[p, a] not in {-1, *red}
    ):
        best = (-inf, child, counts)
        for blue, p, a in fringe:
            tried = max((_merged(child, counts, r, blue, (p, a), noise) for r in red), key=lambda one: one[0])
            if tried[0] < threshold:
                red.append(blue)
                break
            best = max(best, tried, key=lambda one: one[0])
        else:
            _, child, counts = best
    place = {p: k for k, p in enumerate(red)}
    table = np.array([[place.get(int(child[p, a]), place[p]) for a in range(symbols)] for p in red])
    return table, counts[red, 1] > counts[red, 0], float(counts[red].min(1).sum())


def _merged(
    child: Array, counts: Array, red: int, blue: int, edge: tuple[int, int], noise: float
) -> tuple[float, Array, Array]:
    """The score of a merge, and what children and counts are after it."""
    child, counts = child.copy(), counts.copy()
    child[edge] = red
    return fold(child, counts, red, blue, noise), child, counts


@numba.njit(cache=True)
def evidence(zeros: float, ones: float, noise: float) -> float:
    """The log-likelihood of labels at one state."""
    few, many = min(zeros, ones), max(zeros, ones)
    if noise == 0.0:
        return -inf if few > 0 else -log(2.0) if many > 0 else 0.0
    ratio = log((1 - noise) / noise)
    return many * log(1 - noise) + few * log(noise) + log1p(exp((few - many) * ratio)) - log(2.0)


@numba.njit(cache=True)
def fold(child: Array, counts: Array, red: int, blue: int, noise: float) -> float:
    """Merge a blue state, which nothing leads to any more, and the tree below it into a red one; the score."""
    pairs, score = [(red, blue)], 0.0
    while pairs:
        p, q = pairs.pop()
        score -= evidence(counts[p, 0], counts[p, 1], noise) + evidence(counts[q, 0], counts[q, 1], noise)
        counts[p] += counts[q]
        score += evidence(counts[p, 0], counts[p, 1], noise)
        if score == -inf:
            return score
        for a in range(child.shape[1]):
            if child[q, a] >= 0:
                if child[p, a] < 0:
                    child[p, a] = child[q, a]
                else:
                    pairs.append((child[p, a], child[q, a]))
    return score
