"""The state of discrete weights: codes, scale, and latent weights until annealing takes the codes over."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qanneal_opt.encoding.base import Encoded, gumbel, keep_best
from qanneal_opt.encoding.quantizer import Quantizer
from qanneal_opt.moves import Moves

if TYPE_CHECKING:
    from qanneal_opt.encoding.levels import Levels


class EncodedLevels(Encoded):
    """A parameter's codes, scale and, until annealing takes the codes over, latent weights.

    Attributes:
        quantizer: levels and zero points.
        codes: of the parameter's shape, uint8.
        scale: broadcasts to the parameter: ``(rows, 1, ...)``, ``()`` or as it was fixed.
        latent: of the parameter's shape, or None once the codes belong to annealing.
        learns_scale: whether the scale is trained.
    """

    latent: Tensor | None

    def __init__(self, encoding: Levels, param: Tensor, owner: int) -> None:
        super().__init__(param, owner)
        weights = param.detach()
        if not weights.is_floating_point():
            raise TypeError(f"Invalid params: {weights.dtype}; Levels need floating-point parameters")
        _check_finite(weights)
        levels = torch.tensor(encoding.values, dtype=weights.dtype, device=weights.device)
        zero = None if encoding.zero is None else _broadcast(encoding.zero, weights, "zero")
        rows = isinstance(encoding.scale, str) and encoding.scale == "row" and weights.ndim > 1
        self.quantizer = Quantizer(levels, zero, weights.shape, tuple(range(1 if rows else 0, weights.ndim)))
        self.learns_scale = isinstance(encoding.scale, str)
        if isinstance(encoding.scale, Tensor):
            self.scale = _broadcast(encoding.scale, weights, "scale")
        elif encoding.start is None:
            self.scale = self.quantizer.fit(weights)
        else:
            needed = self.quantizer.sum_rows(weights).shape
            if encoding.start.numel() != needed.numel():
                raise ValueError(f"Invalid start: shape {tuple(encoding.start.shape)}; {tuple(needed)} is needed")
            self.scale = encoding.start.detach().to(weights, copy=True).view(needed)
        self.codes = torch.empty_like(weights, dtype=torch.uint8)
        self.quantizer.snap(weights, self.scale, self.codes)
        self.latent = weights.clone()
        self.write()

    @property
    def levels(self) -> Tensor:
        """The values, ``(L,)`` in the parameter's dtype."""
        return self.quantizer.levels

    @property
    def zero(self) -> Tensor | None:
        """The zero points, which broadcast to the parameter; None where the encoding has none."""
        return self.quantizer.zero

    @property
    def signs(self) -> Tensor:
        """``levels[codes] - zero``, of the parameter's shape and dtype."""
        return self.quantizer.signs(self.codes)

    def write(self) -> None:
        """Write codes and scale into the parameter."""
        with torch.no_grad():
            for part, scale in self.quantizer.blocks(self.scale):
                self.param[part] = self.quantizer.signs(self.codes[part], part) * scale
        self._written = self._stamp()

    def adopt(self) -> None:
        """Snap anew if somebody else wrote the parameter, such as ``model.load_state_dict``.

        Writes through ``param.data`` in place leave no mark: they go unseen.

        Raises:
            ValueError: if it is not finite.
        """
        if self._stamp() == self._written:
            return
        q = self.quantizer
        if all(torch.equal(self.param[p], q.signs(self.codes[p], p) * scale) for p, scale in q.blocks(self.scale)):
            self._written = self._stamp()
            return
        weights = self.param.detach().clone()
        _check_finite(weights)
        if self.learns_scale:
            self.scale = q.fit(weights)
        q.snap(weights, self.scale, self.codes)
        if self.latent is not None:
            self.latent = weights
        self.write()

    def scale_gradient(self, gradient: Tensor) -> Tensor:
        """Give d loss / d scale from d loss / d weight by the chain rule."""
        q = self.quantizer
        return q.join([q.sum_rows(q.signs(self.codes[p], p) * gradient[p]) for p, _ in q.blocks(self.scale)])

    def set_scale(self, scale: Tensor) -> None:
        """Take a trained scale; where a step would have left the positive numbers, half the old one."""
        self.scale = torch.where(scale > 0, scale, self.scale / 2)
        self.write()

    def begin(self) -> bool:
        """Hand the codes over to annealing; the weights stay."""
        self.adopt()
        self.latent = None
        return False

    def before_base(self) -> None:
        """Let the base optimizer see the latent weights."""
        self.adopt()
        if self.latent is not None:
            with torch.no_grad():
                self.param.copy_(self.latent)

    def after_base(self) -> None:
        """Keep the trained latent weights, and snap the parameter to the levels."""
        if self.latent is not None:
            self.latent.copy_(self.param.detach())
            if self.learns_scale:
                self.scale = self.quantizer.follow(self.latent, self.scale, self.codes)
            else:
                self.quantizer.snap(self.latent, self.scale, self.codes)
            self.write()
        elif self._stamp() != self._written:
            self.write()

    def propose(
        self,
        gradient: Tensor,
        count: int,
        temperature: float,
        generator: torch.Generator,
        allowed: Tensor | None = None,
    ) -> tuple[Moves, Tensor]:
        """Rank each weight's best alternative level; with more than three levels, its two neighbours."""
        ranked, at = [], 0  # at: where the block begins
        for part, scale in self.quantizer.blocks(self.scale):
            codes, weights = self.codes[part], self.param.detach()[part].flatten()
            target = self._alternatives(codes.flatten())  # (A, n)
            signs = self.levels.take(target)
            if self.zero is not None:
                signs = signs - self.quantizer.share(self.zero, part).expand(codes.shape).reshape(-1)
            displacement = signs * scale.expand(codes.shape).reshape(-1) - weights
            score = gradient[part].flatten() * displacement  # (A, n)
            if temperature > 0:
                score = score - temperature * gumbel(tuple(score.shape), generator, score.device)
            score = score.masked_fill(displacement == 0, math.inf)
            score, which = score.min(0) if len(score) > 1 else (score[0], None)
            if allowed is not None:
                score = torch.where(allowed[part].flatten(), score, math.inf)
            best = keep_best(score, count)
            target = target[0, best] if which is None else target[which[best], best]
            ranked.append((best + at if at else best, target, score[best]))
            at += codes.numel()
        index, target, score = ranked[0]
        if len(ranked) > 1:
            index, target, score = (torch.cat(parts) for parts in zip(*ranked, strict=True))
            best = keep_best(score, count)
            index, target, score = index[best], target[best], score[best]
        return self._moves(index, target), score.cpu().double()

    def sweep(self, generator: torch.Generator) -> Moves:
        """Give each weight, in random order, another level at random."""
        n, count = self.codes.numel(), len(self.levels)
        index = torch.randperm(n, generator=generator)
        shift = torch.randint(1, count, (n,), generator=generator)
        index, shift = index.to(self.codes.device), shift.to(self.codes.device)
        return self._moves(index, (self.codes.flatten()[index].long() + shift) % count)

    def commit(self, moves: Moves) -> None:
        """Write new codes and weights."""
        index = moves.index.to(self.codes.device)
        target = moves.target.to(self.codes.device)
        self.codes.put_(index, target.to(torch.uint8))
        with torch.no_grad():
            self.param.put_(index, self._values(index, target))
        self._written = self._stamp()

    def values_after(self, moves: Moves) -> Tensor:
        """Give levels times scales: no weight is written for that."""
        return self._values(moves.index.to(self.codes.device), moves.target.to(self.codes.device)).cpu()

    def set_codes(self, codes: Tensor) -> None:
        """Take all codes at once, of the parameter's shape."""
        self.codes.copy_(codes.view_as(self.codes))
        self.write()

    def codes_at(self, index: Tensor) -> Tensor:
        """Give the codes of the weights ``index``, int64."""
        return self.codes.take(index).long()

    def tensors(self) -> dict[str, Tensor]:
        """Codes, scale and latent weights: zeros once there are none.

        Never the parameter itself, as distributed checkpoints load into these tensors.
        """
        latent = torch.zeros_like(self.param) if self.latent is None else self.latent
        zero = {} if self.zero is None else {"zero": self.zero}
        return {"codes": self.codes, "scale": self.scale, "latent": latent, **zero}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take codes, scale, zero points and latent weights, and write the weights."""
        self.codes = tensors["codes"].to(self.codes, copy=True)
        if self.zero is not None:
            self.quantizer = replace(self.quantizer, zero=tensors["zero"].to(self.zero, copy=True))
        self.scale = tensors["scale"].to(self.scale, copy=True)
        self.latent = tensors["latent"].to(self.param.detach(), copy=True)
        self.write()

    def snapshot(self) -> dict[str, Tensor]:
        """Codes and scale, copied."""
        return {"codes": self.codes.clone(), "scale": self.scale.clone()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Take a snapshot's codes and scale, and write the weights."""
        self.codes, self.scale = snapshot["codes"].clone(), snapshot["scale"].clone()
        self.write()

    def _stamp(self) -> tuple[int, int]:
        """What changes when somebody writes the parameter or gives it another storage."""
        return self.param._version, self.param.data_ptr()

    def _values(self, index: Tensor, target: Tensor) -> Tensor:
        signs = self.levels.take(target)
        if self.zero is not None:
            signs = signs - self.zero.expand(self.param.shape).take(index)
        return signs * self.scale.expand(self.param.shape).take(index)

    def _moves(self, index: Tensor, target: Tensor) -> Moves:
        value = self._values(index, target)
        displacement = value - self.param.detach().take(index)
        owner = torch.full((len(index),), self.owner, dtype=torch.int64)
        start = torch.arange(len(index) + 1)
        return Moves(owner, index.cpu(), displacement.cpu(), value.cpu(), target.cpu(), start)

    def _alternatives(self, codes: Tensor) -> Tensor:
        """``(A, n)`` int64: the codes that each weight may move to; its own where there is no neighbour."""
        codes, count = codes.long(), len(self.levels)
        if count <= 3:
            return torch.stack([(codes + shift) % count for shift in range(1, count)])
        return torch.stack([(codes - 1).clamp(min=0), (codes + 1).clamp(max=count - 1)])


def _check_finite(weights: Tensor) -> None:
    if weights.numel() == 0 or not bool(torch.isfinite(weights).all()):
        raise ValueError(f"Invalid params: shape {tuple(weights.shape)}; Levels need finite weights, at least one")


def _broadcast(values: Tensor, weights: Tensor, name: str) -> Tensor:
    """A copy in the weights' dtype; ValueError where it does not broadcast to them."""
    try:
        values.expand(weights.shape)
    except RuntimeError as error:
        given, needed = tuple(values.shape), tuple(weights.shape)
        raise ValueError(f"Invalid {name}: shape {given}; it has to broadcast to {needed}") from error
    return values.detach().to(weights, copy=True)
