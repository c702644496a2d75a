"""Which of the candidates to take, by their true losses: the surrogate proposes, the truth disposes."""

from __future__ import annotations

import math
from collections.abc import Sequence

STAY = -1


def metropolis(
    losses: Sequence[float],
    energies: Sequence[float] | None,
    *,
    loss: float,
    energy: float = 0.0,
    temperature: float,
    drawn_at: float | None = None,
    uniforms: Sequence[float],
) -> int:
    r"""Go through candidates in the order given, and tell where the chain ends.

    A candidate b replaces the present state with probability

    .. math:: \min(1, \exp(-((f(b) - f(b_{now})) - (E(b) - E(b_{now}))) / T))

    When candidates are drawn independently from :math:`\exp(-E/T)`, this is independence Metropolis-Hastings
    (Hastings, 1970): it leaves :math:`\exp(-f/T)` invariant, since what the surrogate E already counted when
    it sampled is taken out. Without ``energies`` it is plain Metropolis on f.

    A sampler that met another temperature T' proposes b with probability q(b) in proportion to :math:`\exp(-E(b)/T')`.
    The rule's ratio :math:`\pi(b) q(b_{now}) / (\pi(b_{now}) q(b))` with :math:`\pi = \exp(-f/T)` is then

    .. math:: \min(1, \exp(-((f(b) - f(b_{now})) / T - (E(b) - E(b_{now})) / T')))

    which leaves the same :math:`\exp(-f/T)` invariant; at T' = T it is the one above.

    Args:
        losses: f of each candidate; a loss that is not finite is never taken.
        energies: E of each candidate, or None for a sampler that draws at no temperature.
        loss: f of the present state.
        energy: E of the present state.
        temperature: T > 0, in units of f.
        drawn_at: T' > 0, where it is another one.
        uniforms: a uniform number in [0, 1) for each candidate.

    Returns:
        The place of the last candidate taken, or ``STAY``.

    >>> metropolis([2.0, 1.5], [0.0, 0.0], loss=1.0, temperature=1.0, uniforms=[0.1, 0.9])
    1
    """
    if drawn_at is not None and not drawn_at > 0:
        raise ValueError(f"Invalid drawn_at: {drawn_at}; a positive number, or None, is needed")
    if not temperature > 0:
        raise ValueError(f"Invalid temperature: {temperature}; a positive number is needed (best() is for 0)")
    counted = 1.0 if drawn_at is None else temperature / drawn_at
    chosen = STAY
    for place, candidate in enumerate(losses):
        if not math.isfinite(candidate):
            continue
        change = candidate - loss
        if energies is not None:
            change -= counted * (energies[place] - energy)
        if change <= 0 or uniforms[place] < math.exp(-change / temperature):
            chosen, loss = place, candidate
            energy = energies[place] if energies is not None else energy
    return chosen


def best(losses: Sequence[float], *, loss: float) -> int:
    """Tell the place of the lowest finite loss if it is below ``loss``, else ``STAY``: never worse.

    >>> best([3.0, 0.5, 0.7], loss=1.0), best([3.0], loss=1.0)
    (1, -1)
    """
    finite = (k for k, candidate in enumerate(losses) if math.isfinite(candidate))
    place = min(finite, key=losses.__getitem__, default=STAY)
    return place if place != STAY and losses[place] < loss else STAY
