"""Keep or drop: a fixed fraction of the weights is kept, the others are exactly zero."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.checks import check_int
from qanneal_opt.encoding.base import Encoded, gumbel, keep_best
from qanneal_opt.moves import Moves


@dataclass(frozen=True)
class Mask:
    r"""Keep ``density`` of a parameter's weights and drop the others to exactly zero.

    Nothing is dropped before the first annealing step, which drops the smallest magnitudes; from then on
    a move swaps a kept weight for a dropped one, so the number kept never changes. A dropped weight's last
    value is kept aside, and a swap brings it back.

    Gradual pruning: with ``steps`` more than 1 the first so many annealing steps drop the smallest magnitudes of what
    is left, so that after the k-th of S a share

    .. math:: 1 - (1 - \text{density}) (1 - (1 - k / S)^3)

    is kept (Zhu and Gupta, 2017), and each step anneals at its own number. A span ends at the best state of the last
    number.

    A pruned network: a parameter with exactly that many nonzero weights begins with its zeros dropped.

    Args:
        density: the fraction kept, in (0, 1]; the number kept is rounded, and at least 1.
        steps: annealing steps until so few are kept, at least 1.
        aside: of the parameter's shape, for a pruned network: the values that its dropped weights come back with, such
            as ``report.aside[name]`` of :func:`qanneal_opt.prune`; 0 without.

    Raises:
        ValueError: if ``density`` is outside (0, 1], ``steps`` is no positive int, or ``aside`` does not fit.

    >>> Mask(0.25).kept(64)
    16
    >>> [Mask(0.25, steps=3).kept(64, k) for k in (1, 2, 3)]
    [30, 18, 16]
    """

    density: float
    steps: int = 1
    aside: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.density <= 1.0:
            raise ValueError(f"Invalid density: {self.density}; a number in (0, 1] is needed")
        check_int("steps", self.steps, 1)

    def kept(self, count: int, step: int | None = None) -> int:
        """How many of ``count`` weights are kept in the end, or after annealing step ``step``, from 1."""
        rest = 0.0 if step is None else (1 - min(step / self.steps, 1.0)) ** 3
        return max(1, round((self.density + (1 - self.density) * rest) * count))  # at the end exactly the density

    def attach(self, param: Tensor, owner: int) -> EncodedMask:
        """Give the state of ``param``, with nothing dropped yet."""
        return EncodedMask(self, param, owner)

    def spec(self) -> dict[str, Any]:
        """Give the density, and the steps where there are several."""
        return {"kind": "mask", "density": self.density} | ({"steps": self.steps} if self.steps > 1 else {})


class EncodedMask(Encoded):
    """A parameter's mask, and the last values of its dropped weights.

    Attributes:
        mask: bool, of the parameter's shape; all True until annealing begins, but for a pruned network.
        aside: of the parameter's shape: a dropped weight's last value, 0 elsewhere.
    """

    def __init__(self, encoding: Mask, param: Tensor, owner: int) -> None:
        super().__init__(param, owner)
        if not param.is_floating_point() or param.numel() == 0:
            raise ValueError(f"Invalid params: {param.dtype}, shape {tuple(param.shape)}; Mask needs floating weights")
        count = param.numel()
        self._numbers = [encoding.kept(count, step) for step in range(1, encoding.steps + 1)]  # kept, never rising
        self.mask = torch.ones_like(param, dtype=torch.bool)
        self.aside = torch.zeros_like(param.detach())
        if int(torch.count_nonzero(param.detach())) == self._numbers[-1]:
            self.mask = param.detach() != 0
        if encoding.aside is not None:
            self._take_aside(encoding.aside)

    @property
    def dropped(self) -> bool:
        """Whether anything was dropped yet."""
        return not bool(self.mask.all())

    def begin(self) -> bool:
        """Drop the smallest magnitudes down to the next number, while there is one."""
        number = next((n for n in self._numbers if n < int(self.mask.sum())), None)
        if number is None:
            return False
        size = torch.where(self.mask, self.param.detach().abs(), -1.0).flatten()
        out = size.argsort(descending=True, stable=True)[number:]
        out = out[self.mask.take(out)]
        with torch.no_grad():
            self.aside.put_(out, self.param.take(out))
            self.mask.put_(out, torch.zeros_like(out, dtype=torch.bool))
            self.param.masked_fill_(~self.mask, 0.0)
        return True

    def after_base(self) -> None:
        """Keep dropped weights at exactly zero."""
        with torch.no_grad():
            self.param.masked_fill_(~self.mask, 0.0)

    def propose(
        self,
        gradient: Tensor,
        count: int,
        temperature: float,
        generator: torch.Generator,
        allowed: Tensor | None = None,
    ) -> tuple[Moves, Tensor]:
        """Pair the best weights to drop with the best to bring back, by rank."""
        change = (gradient * torch.where(self.mask, -self.param.detach(), self.aside)).flatten()
        if temperature > 0:
            change = change - temperature * gumbel(tuple(change.shape), generator, change.device)
        if allowed is not None:
            change = torch.where(allowed.flatten(), change, math.inf)
        mask = self.mask.flatten()
        out = keep_best(torch.where(mask, change, math.inf), count)
        back = keep_best(torch.where(mask, math.inf, change), count)
        pairs = min(len(out), len(back))
        out, back = out[:pairs], back[:pairs]
        return self._swaps(out, back), (change[out] + change[back]).cpu().double()

    def sweep(self, generator: torch.Generator) -> Moves:
        """Pair kept and dropped weights at random, each at most once."""
        order = torch.randperm(self.mask.numel(), generator=generator).to(self.mask.device)
        kept = self.mask.flatten()[order]
        out, back = order[kept], order[~kept]
        pairs = min(len(out), len(back))
        return self._swaps(out[:pairs], back[:pairs])

    def commit(self, moves: Moves) -> None:
        """Drop weights to zero, their values kept aside, and bring others back."""
        index = moves.index.to(self.mask.device)
        keep = moves.target.to(self.mask.device).bool()
        out, back = index[~keep], index[keep]
        with torch.no_grad():
            self.aside.put_(out, self.param.take(out))
            self.param.put_(out, torch.zeros_like(out, dtype=self.param.dtype))
            self.param.put_(back, self.aside.take(back))
        self.aside.put_(back, torch.zeros_like(back, dtype=self.aside.dtype))
        self.mask.put_(index, keep)

    def codes_at(self, index: Tensor) -> Tensor:
        """Give 1 for a kept weight, 0 for a dropped one, at ``index``, int64."""
        return self.mask.take(index).long()

    def tensors(self) -> dict[str, Tensor]:
        """The mask and the values kept aside."""
        return {"mask": self.mask, "aside": self.aside}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the mask and the values kept aside, and drop what is masked."""
        self.mask = tensors["mask"].to(self.mask, copy=True)
        self.aside = tensors["aside"].to(self.aside, copy=True)
        self.after_base()

    def snapshot(self) -> dict[str, Tensor]:
        """Weights, mask and values kept aside, copied."""
        return {
            "weights": self.param.detach().clone(),
            "mask": self.mask.clone(),
            "aside": self.aside.clone(),
        }

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Write a snapshot's weights, mask and values kept aside."""
        self.mask, self.aside = snapshot["mask"].clone(), snapshot["aside"].clone()
        with torch.no_grad():
            self.param.copy_(snapshot["weights"])

    def _take_aside(self, values: Tensor) -> None:
        """Let dropped weights come back with ``values``."""
        if values.shape != self.param.shape or not bool(values.isfinite().all()):
            given = f"shape {tuple(values.shape)}" if values.shape != self.param.shape else "not finite"
            raise ValueError(f"Invalid aside: {given}; finite values of shape {tuple(self.param.shape)} are needed")
        if not self.dropped:
            raise ValueError(
                f"Invalid aside: {int(torch.count_nonzero(self.param.detach()))} of {self.param.numel()} weights are "
                f"not zero; a pruned parameter with {self._numbers[-1]} is needed"
            )
        self.aside = values.detach().to(self.aside, copy=True).masked_fill(self.mask, 0.0)

    def _swaps(self, out: Tensor, back: Tensor) -> Moves:
        index = torch.stack([out, back], dim=1).flatten()  # (2 m,) drop, keep, drop, keep, ...
        value = torch.stack([torch.zeros_like(self.aside.flatten()[out]), self.aside.flatten()[back]], dim=1).flatten()
        displacement = value - self.param.detach().flatten()[index]
        owner = torch.full((len(index),), self.owner, dtype=torch.int64)
        target = torch.tensor([0, 1]).repeat(len(out))
        start = 2 * torch.arange(len(out) + 1)
        return Moves(owner, index.cpu(), displacement.cpu(), value.cpu(), target, start)
