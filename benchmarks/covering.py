"""Rules by sequential covering: the control.

A rule grows by the literal with most information gained (Quinlan, 1990: FOIL), until it covers no negative; what it
covers is taken out, and the next one grows. With pruning (Fürnkranz and Widmer, 1994: IREP) it grows on two thirds of
the samples, and its last literals are dropped as long as that does not hurt on the other third; it all ends when a rule
is wrong on more than half of what it covers there.
"""

import numpy as np

Array = np.ndarray


def learn(inputs: Array, labels: Array, rng: np.random.Generator, *, prune: bool, most: int = 40) -> Array:
    """Literals (K, n) int8 of rules for bool inputs (N, n) and labels (N,)."""
    inputs, labels = inputs.copy(), labels.copy()
    rules: list[Array] = []
    while labels.any() and len(rules) < most:
        order = rng.permutation(len(labels))
        cut = max(1, 2 * len(order) // 3) if prune else len(order)
        grown_on, rest = order[:cut], order[cut:]
        rule = _grown(inputs[grown_on], labels[grown_on])
        if prune:
            rule = _pruned(rule, inputs[rest], labels[rest])
        covered = _covers(rule, inputs)
        held_out = covered[rest]
        if not rule or (held_out.any() and labels[rest][held_out].mean() <= 0.5) or not (covered & labels).any():
            break
        literals = np.zeros(inputs.shape[1], np.int8)
        for column, level in rule:
            literals[column] = level
        rules.append(literals)
        inputs, labels = inputs[~covered], labels[~covered]
    return np.array(rules, np.int8).reshape(-1, inputs.shape[1])


def _covers(rule: list[tuple[int, int]], inputs: Array) -> Array:
    held = np.ones(len(inputs), bool)
    for column, level in rule:
        held &= inputs[:, column] == (level > 0)
    return held


def _grown(inputs: Array, labels: Array) -> list[tuple[int, int]]:
    rule: list[tuple[int, int]] = []
    while (~labels).any() and labels.any():
        right = np.stack([inputs[labels].sum(0), (~inputs[labels]).sum(0)]).astype(float)  # (2, n): plain, negated
        wrong = np.stack([inputs[~labels].sum(0), (~inputs[~labels]).sum(0)])
        share = np.divide(right, right + wrong, out=np.full_like(right, 1e-9), where=right > 0)
        gain = right * (np.log(share) - np.log(labels.mean()))
        negated, column = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[negated, column] <= 1e-9:
            break
        rule.append((int(column), -1 if negated else 1))
        held = inputs[:, column] == (not negated)
        inputs, labels = inputs[held], labels[held]
    return rule


def _pruned(rule: list[tuple[int, int]], inputs: Array, labels: Array) -> list[tuple[int, int]]:
    def worth(beginning: list[tuple[int, int]]) -> float:
        held = _covers(beginning, inputs)
        return float(labels[held].sum() - (~labels[held]).sum()) / max(1, int(held.sum()))

    lengths = range(len(rule), 0, -1)
    return rule[: max(lengths, key=lambda k: worth(rule[:k]), default=0)]
