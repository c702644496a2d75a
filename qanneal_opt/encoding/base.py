"""The two protocols of an encoding: what users put into a group, and what holds one parameter's codes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor

from qanneal_opt.moves import Moves

# Weights handled at once: bounds temporaries, whatever the parameter's size, and stays in the cache.
CHUNK = 1 << 18


class Encoding(Protocol):
    """What a parameter group carries under ``"encoding"``: a frozen description without state."""

    def attach(self, param: Tensor, owner: int) -> Encoded:
        """Give the state of ``param`` under this encoding, the ``owner``-th of the encoded parameters."""
        ...

    def spec(self) -> dict[str, Any]:
        """Give plain data that tells this encoding from others, for checkpoints."""
        ...


class Encoded(ABC):
    """One parameter under an encoding: its codes, its candidate moves, and how they are written.

    Attributes:
        param: the parameter, always holding legal weights between optimizer steps.
        owner: its place among the optimizer's encoded parameters.
    """

    def __init__(self, param: Tensor, owner: int) -> None:
        self.param = param
        self.owner = owner

    @abstractmethod
    def propose(
        self,
        gradient: Tensor,
        count: int,
        temperature: float,
        generator: torch.Generator,
        allowed: Tensor | None = None,
    ) -> tuple[Moves, Tensor]:
        """Give the ``count`` best moves by ``gradient * displacement - temperature * Gumbel``, and scores.

        At most one move touches a weight, and only where ``allowed`` (bool, of the parameter's shape) is
        True. Fewer come back where there are not that many.
        """

    @abstractmethod
    def sweep(self, generator: torch.Generator) -> Moves:
        """Give one move for each weight (each kept weight of a mask), in random order."""

    @abstractmethod
    def commit(self, moves: Moves) -> None:
        """Write the changes ``moves``, all of this parameter."""

    @abstractmethod
    def codes_at(self, index: Tensor) -> Tensor:
        """Give the present codes of the weights ``index``, int64."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Give the state to be saved, by name; the same names whatever happened so far."""

    @abstractmethod
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the state that :meth:`tensors` gave, and the parameter's weights as they now are."""

    @abstractmethod
    def snapshot(self) -> dict[str, Tensor]:
        """Give copies of what determines the weights."""

    @abstractmethod
    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Write the weights of a snapshot."""

    def begin(self) -> bool:
        """Take note that annealing begins, before each annealing step; tell whether that changed weights."""
        return False

    def before_base(self) -> None:
        """Prepare the parameter for a step of the base optimizer."""

    def after_base(self) -> None:
        """Make the weights legal again after a step of the base optimizer."""

    def values_after(self, moves: Moves) -> Tensor:
        """Give the weights that ``moves``, all of this parameter, would change, as they would then be: ``(c,)``."""
        back = self.inverse(moves)
        self.commit(moves)
        values = self.param.detach().take(moves.index.to(self.param.device)).cpu()
        self.commit(back)
        return values

    def inverse(self, moves: Moves) -> Moves:
        """Give what takes back ``moves``, all of this parameter, if it is asked before they are committed."""
        index = moves.index.to(self.param.device)
        value, target = self.param.detach().take(index).cpu(), self.codes_at(index).cpu()
        return Moves(moves.owner, moves.index, -moves.displacement, value, target, moves.start)


def gumbel(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw standard Gumbel noise on the CPU, so that it is the same on every device."""
    return -torch.empty(shape).exponential_(generator=generator).log_().to(device)


def keep_best(scores: Tensor, count: int) -> Tensor:
    """Give the places of the ``count`` smallest finite scores, best first."""
    best = torch.topk(scores, min(count, len(scores)), largest=False, sorted=True)
    return best.indices[best.values < math.inf]
