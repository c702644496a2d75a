"""Blocks of weights small enough for one QUBO: what its bits mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from qanneal_opt.encoding.window import EncodedWindow, Window
from qanneal_opt.moves import Moves
from qanneal_opt.quadratic import Affine


@dataclass(frozen=True, eq=False)
class Block:
    """Some weights, and what m bits make of them: a move each, or the binary expansion of a window around each weight.

    Attributes:
        moves: the weights, one change each: which bit makes it is in ``affine``.
        windowed: the parameter that the weights are of, where they are under a window; None for moves of a bit each.
        window: that window, as it was when the block was made.
    """

    moves: Moves
    windowed: EncodedWindow | None = None
    window: Window | None = None

    @staticmethod
    def of_window(encoded: EncodedWindow, moves: Moves) -> Block:
        """The binary expansion of the present window."""
        return Block(moves, encoded, encoded.window)

    @cached_property
    def present(self) -> Tensor:
        """``(m,)`` uint8, the bits at which nothing moves."""
        if self.window is not None:
            return self.window.present(len(self.moves.index))
        return torch.zeros(len(self.moves), dtype=torch.uint8)

    @cached_property
    def affine(self) -> Affine:
        """``d = offset + matrix b``, one row a change."""
        moves = self.moves
        if self.window is not None:
            return self.window.affine(len(moves.index))
        matrix = torch.zeros(len(moves.index), len(moves), dtype=torch.float64)  # (c, m)
        matrix[torch.arange(len(moves.index)), moves.bit] = moves.displacement.double()
        return Affine(torch.zeros(len(moves.index), dtype=torch.float64), matrix)

    def decode(self, bits: Tensor) -> Moves:
        """Give the moves that bits ``(m,)`` make from the present weights."""
        if self.windowed is None:
            return self.moves.select(bits.bool())
        displacement = self.affine.decode(bits)  # (n,)
        moving = displacement != 0
        index = self.moves.index[moving].to(self.windowed.param.device)
        return self.windowed.displace(index, displacement[moving].to(self.windowed.param))


def split(moves: Moves, encoded: Sequence[object], variables: int) -> list[Block]:
    """Split candidate moves into blocks of at most ``variables`` bits; windowed parameters get their own."""
    blocks = []
    for window in (e for e in encoded if isinstance(e, EncodedWindow)):
        mine = moves.owner[moves.start[:-1]] == window.owner
        parts = moves.select(mine).blocks(max(1, variables // window.bits))
        blocks += [Block.of_window(window, part) for part in parts]
        moves = moves.select(~mine)
    return [Block(part) for part in moves.blocks(variables)] + blocks
