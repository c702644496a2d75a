"""Candidate moves of encoded weights: what steps propose, score, judge and commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moves:
    """``m`` candidate moves over ``c >= m`` changes of single weights.

    Move ``k`` makes the changes ``start[k] : start[k + 1]``: one for another level of a weight, two for a
    swap of a mask (one weight out, one in). Any subset of the moves may be made together when no weight
    stands in two of them, which is what lets one bit stand for one move.

    Attributes:
        owner: ``(c,)`` int64, which of the encoded parameters.
        index: ``(c,)`` int64, the weight's place in the flattened parameter.
        displacement: ``(c,)`` floating, new value minus present value.
        value: ``(c,)`` floating, the new value, exactly as it will be written.
        target: ``(c,)`` int64, the new code.
        start: ``(m + 1,)`` int64, where each move's changes begin.
    """

    owner: Tensor
    index: Tensor
    displacement: Tensor
    value: Tensor
    target: Tensor
    start: Tensor

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def bit(self) -> Tensor:
        """``(c,)`` int64: the move that each change belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.start.diff())

    def select(self, chosen: Tensor) -> Moves:
        """Keep the moves ``chosen``: ``(m,)`` bool, or int64 positions in the order wanted."""
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero().flatten()
        if len(self.index) == len(self):  # a change each
            start, changes = torch.arange(len(chosen) + 1), chosen
        else:
            sizes = self.start.diff()[chosen]
            start = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
            within = torch.arange(int(start[-1])) - torch.repeat_interleave(start[:-1], sizes)
            changes = torch.repeat_interleave(self.start[:-1][chosen], sizes) + within
        return Moves(
            self.owner[changes],
            self.index[changes],
            self.displacement[changes],
            self.value[changes],
            self.target[changes],
            start,
        )

    @staticmethod
    def join(parts: Sequence[Moves]) -> Moves:
        """Put several sets of moves one behind the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            none = torch.zeros(0, dtype=torch.int64)
            return Moves(none, none, torch.zeros(0), torch.zeros(0), none, torch.zeros(1, dtype=torch.int64))
        sizes = torch.cat([part.start.diff() for part in parts])
        return Moves(
            torch.cat([part.owner for part in parts]),
            torch.cat([part.index for part in parts]),
            torch.cat([part.displacement for part in parts]),
            torch.cat([part.value for part in parts]),
            torch.cat([part.target for part in parts]),
            torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
        )

    def places(self, owner: int) -> Tensor:
        """Give the places of one parameter's changes among all, int64."""
        known = self._places
        if owner not in known:
            known[owner] = (self.owner == owner).nonzero().flatten()
        return known[owner]

    @cached_property
    def _places(self) -> dict[int, Tensor]:
        return {}

    def of(self, owner: int) -> Moves:
        """Give one parameter's changes, each as a move of its own."""
        mine = self.places(owner)
        start = torch.arange(len(mine) + 1)
        return Moves(
            self.owner[mine],
            self.index[mine],
            self.displacement[mine],
            self.value[mine],
            self.target[mine],
            start,
        )

    def blocks(self, size: int) -> list[Moves]:
        """Split into the fewest blocks of at most ``size`` moves, of about equal length, in order."""
        count = -(-len(self) // size)
        if count == 1:
            return [self]
        return [self.select(part) for part in torch.arange(len(self)).tensor_split(count)] if count else []
