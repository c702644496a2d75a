"""Rules by sequential covering: the control.

A rule grows from a sample, of whose literals it takes the one with most information gained (Quinlan, 1990: FOIL), until
it covers no negative. Of rules from many samples (Michalski, 1969: AQ) the one that covers most is taken, what it
covers is taken out, and the next one grows. With pruning a rule's last literals are dropped as long as it then covers
more positives less negatives, and it all ends when the best rule covers too few.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Rule = list[tuple[int, int]]  # columns and levels
SEEDS, MOST = 50, 40  # samples from which a rule is grown; rules


@dataclass(frozen=True)
class Pruning:
    """The least number of positives less negatives that a rule has to cover."""

    least: int


def learn(inputs: Array, labels: Array, rng: np.random.Generator, pruning: Pruning | None = None) -> Array:
    """Literals (K, n) int8 of rules for bool inputs (N, n) and labels (N,)."""
    inputs, labels = inputs.copy(), labels.copy()
    rules: list[Array] = []
    while labels.any() and len(rules) < MOST:
        seeds = inputs[rng.permutation(np.flatnonzero(labels))[:SEEDS]]
        grown = [_grown(inputs, labels, seed) for seed in seeds]
        if pruning:
            grown = [_pruned(rule, inputs, labels) for rule in grown]
        rule = max(grown, key=lambda one: _worth(one, inputs, labels))
        if not rule or _worth(rule, inputs, labels) < (pruning.least if pruning else 1):
            break
        literals = np.zeros(inputs.shape[1], np.int8)
        for column, level in rule:
            literals[column] = level
        rules.append(literals)
        left = ~_covers(rule, inputs)
        inputs, labels = inputs[left], labels[left]
    return np.array(rules, np.int8).reshape(-1, inputs.shape[1])


def _covers(rule: Rule, inputs: Array) -> Array:
    held = np.ones(len(inputs), bool)
    for column, level in rule:
        held &= inputs[:, column] == (level > 0)
    return held


def _worth(rule: Rule, inputs: Array, labels: Array) -> int:
    """Positives less negatives that are covered."""
    held = _covers(rule, inputs)
    return int(labels[held].sum()) - int((~labels[held]).sum())


def _grown(inputs: Array, labels: Array, seed: Array) -> Rule:
    rule: Rule = []
    agrees = inputs == seed  # (N, n): where the seed's literals hold
    while not labels.all():
        right, wrong = agrees[labels].sum(0), agrees[~labels].sum(0)  # (n,)
        gain = right * (np.log(right / (right + wrong)) - np.log(labels.mean()))  # the seed itself is right
        column = int(gain.argmax())
        if gain[column] <= 1e-9:
            break
        rule.append((column, 1 if seed[column] else -1))
        held = agrees[:, column]
        agrees, labels = agrees[held], labels[held]
    return rule


def _pruned(rule: Rule, inputs: Array, labels: Array) -> Rule:
    lengths = range(len(rule), 0, -1)
    return rule[: max(lengths, key=lambda k: _worth(rule[:k], inputs, labels), default=0)]
