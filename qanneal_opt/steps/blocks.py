"""Blocks of weights small enough for one QUBO: what its bits mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qanneal_opt.encoding.window import EncodedWindow
from qanneal_opt.moves import Moves
from qanneal_opt.quadratic import Affine


@dataclass(frozen=True, eq=False)
class Block:
    """Some weights, the displacements that m bits stand for, and the bits of the present weights.

    Attributes:
        moves: the weights, one change each: which bit makes it is in ``affine``.
        affine: ``d = offset + matrix b``, one row a change.
        present: ``(m,)`` uint8, the bits at which nothing moves.
        window: the windowed parameter that the weights are of; None for moves of a bit each.
    """

    moves: Moves
    affine: Affine
    present: Tensor
    window: EncodedWindow | None = None

    @staticmethod
    def of_moves(moves: Moves) -> Block:
        """One bit a move."""
        matrix = torch.zeros(len(moves.index), len(moves), dtype=torch.float64)  # (c, m)
        matrix[torch.arange(len(moves.index)), moves.bit] = moves.displacement.double()
        offset = torch.zeros(len(moves.index), dtype=torch.float64)
        return Block(moves, Affine(offset, matrix), torch.zeros(len(moves), dtype=torch.uint8))

    @staticmethod
    def of_window(encoded: EncodedWindow, moves: Moves) -> Block:
        """The binary expansion of a window around each weight."""
        n = len(moves.index)
        return Block(moves, encoded.window.affine(n), encoded.window.present(n), encoded)

    def decode(self, bits: Tensor) -> Moves:
        """Give the moves that bits ``(m,)`` make from the present weights."""
        if self.window is None:
            return self.moves.select(bits.bool())
        displacement = self.affine.decode(bits)  # (n,)
        moving = displacement != 0
        index = self.moves.index[moving].to(self.window.param.device)
        return self.window.displace(index, displacement[moving].to(self.window.param))


def split(moves: Moves, encoded: Sequence[object], variables: int) -> list[Block]:
    """Split candidate moves into blocks of at most ``variables`` bits; windowed parameters get their own."""
    windows = [e for e in encoded if isinstance(e, EncodedWindow)]
    windowed = torch.zeros(len(moves), dtype=torch.bool)
    blocks = []
    for window in windows:
        mine = moves.owner[moves.start[:-1]] == window.owner
        windowed |= mine
        parts = moves.select(mine).blocks(max(1, variables // window.bits))
        blocks += [Block.of_window(window, part) for part in parts]
    return [Block.of_moves(part) for part in moves.select(~windowed).blocks(variables)] + blocks
