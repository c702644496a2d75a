"""Whole rounds of annealing of a stack's discrete weights in one compiled call, refits among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.refit import BETAS, LR
from qanneal_opt.steps.net import PLACE
from qanneal_opt.steps.stack_data import numbers
from qanneal_opt.steps.stack_refit import Refit


@dataclass(frozen=True, eq=False)
class State:
    """J, the codes of each discrete parameter, and the refit's scales and continuous parameters."""

    value: float
    codes: list[Tensor]
    unknowns: list[Tensor]


@dataclass(frozen=True, eq=False)
class Rounds:
    """What rounds of annealing did.

    Attributes:
        last: the state at the end.
        best: the state at the best end of a round; None if none was below what was given.
        judged: moves evaluated.
        moved: moves made.
        gained: change of J by moves alone, without refits.
    """

    last: State
    best: State | None
    judged: int
    moved: int
    gained: float


def anneal(
    refit: Refit,
    encoded: Sequence[EncodedLevels],
    heat: Tensor,
    steps: int,
    moments: Sequence[tuple[Tensor, Tensor, Tensor]],
    seed: int,
    best_value: float,
) -> Rounds:
    """Anneal ``heat.shape[0]`` rounds of ``heat.shape[1]`` gradient-ranked proposals, each with a refit behind it.

    The stack stands at the last state afterwards; writing it to the torch parameters is the caller's.

    Args:
        refit: loaded with the present codes, scales and continuous parameters; its stack stands there too.
        encoded: the discrete parameters whose weights are moved.
        heat: (rounds, proposals) float64, temperatures in units of J.
        steps: refit steps a round.
        moments: as :meth:`Refit.train` takes them; changed in place.
        seed: the same seed gives the same result, bit for bit.
        best_value: J of the best state so far.
    """
    from qanneal_opt.steps.kernels_rounds import rounds

    stack = refit.stack
    kinds = np.array([len(e.levels) for e in encoded], np.int64)
    levels = np.zeros((len(encoded), max(kinds)), np.float32)
    for k, e in enumerate(encoded):
        levels[k, : kinds[k]] = numbers(e.levels.float())
    counts = [e.param.numel() for e in encoded]
    slot = np.repeat([stack.slot[id(e.param)] for e in encoded], counts)
    changes = stack.changes(slot, np.concatenate([np.arange(n) for n in counts]), np.zeros(sum(counts), np.float32))
    places = np.concatenate([_places(refit, k, e) for k, e in enumerate(encoded)])
    codes = np.concatenate([numbers(e.codes.long()).ravel() for e in encoded])
    unknowns, best, best_codes = refit.unknowns, refit.unknowns.copy(), codes.copy()
    with refit.moments(moments):
        stack.value, found, judged, moved, gained = rounds(
            stack.net.address, refit.net.address, changes.ctypes.data, places, levels, kinds, codes, refit.copies,
            numbers(heat), steps, stack.gradient, refit.slopes, refit.mean, refit.square, refit.parts, LR, *BETAS, 1e-8,
            np.uint64(seed % 2**64), stack.value, best_value, best_codes, best,
        )  # fmt: skip

    def state(value: float, codes: NDArray[np.int64], unknowns: NDArray[np.float32]) -> State:
        parts = torch.from_numpy(codes).split(counts)
        shaped = [part.view(e.codes.shape) for part, e in zip(parts, encoded)]
        return State(value, shaped, refit.split(unknowns))

    best_state = state(found, best_codes, best) if found < best_value else None
    return Rounds(state(stack.value, codes, unknowns), best_state, judged, moved, gained)


def _places(refit: Refit, owner: int, encoded: EncodedLevels) -> NDArray[np.void]:
    """(n,) PLACE of a parameter's weights."""
    wide = numbers(encoded.scale.float().expand(encoded.param.shape)).ravel()
    places = np.zeros(len(wide), PLACE)
    places["owner"], places["sign"] = owner, refit.at[id(encoded.param)] + np.arange(len(wide))
    places["unknown"], places["scale"] = -1, wide
    first = refit.scale_at.get(id(encoded.param))
    if first is not None:
        rows = encoded.scale.numel()
        places["unknown"] = first + np.arange(rows).repeat(len(wide) // rows)
    return places
