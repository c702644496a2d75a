"""Discrete weights: each one of a few levels times a scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.encoding.base import CHUNK, Encoded, gumbel, keep_best
from qanneal_opt.moves import Moves


@dataclass(frozen=True)
class Levels:
    """Discrete weights: ``w = (values[code] - zero) * scale``, with one scale a row, one a tensor, or a fixed one.

    Until the first annealing step the base optimizer trains a latent copy of the weights straight-through
    (Courbariaux et al., 2015), and codes and scales follow it: the scale is the least-squares one, for
    binary weights the row's mean absolute latent (Rastegari et al., 2016). From then on the codes belong to
    annealing, and a scale that is not fixed gets gradient steps by the chain rule.

    Args:
        values: at least two different finite numbers, at most 256; kept in ascending order.
        scale: ``"row"`` (one for each index of the first dimension; ``"tensor"`` for parameters with fewer
            than two), ``"tensor"``, or a positive tensor that broadcasts to the parameter and stays fixed.
        start: the first scale, where it is trained: one positive number a row, or one. By default it is fitted.
        zero: zero points, fixed, that broadcast to the parameter; None: 0.

    Raises:
        ValueError: on too few, too many, equal or non-finite values, or another scale, start or zero than these.

    >>> Levels.ternary().values
    (-1.0, 0.0, 1.0)
    """

    values: tuple[float, ...]
    scale: str | Tensor = field(default="row", kw_only=True)
    start: Tensor | None = field(default=None, kw_only=True)
    zero: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        values = tuple(sorted(float(value) for value in self.values))
        if not 2 <= len(values) <= 256 or len(set(values)) < len(values) or not all(map(math.isfinite, values)):
            raise ValueError(f"Invalid values: {self.values}; 2 to 256 different finite numbers are needed")
        if isinstance(self.scale, Tensor):
            if not bool((torch.isfinite(self.scale) & (self.scale > 0)).all()):
                raise ValueError(f"Invalid scale: {self.scale}; a fixed scale has to be positive and finite")
        elif self.scale not in ("row", "tensor"):
            raise ValueError(f'Invalid scale: {self.scale!r}; "row", "tensor" or a positive tensor is needed')
        if self.start is not None:
            if isinstance(self.scale, Tensor):
                raise ValueError("Invalid start: a scale that is fixed has none")
            if not bool((torch.isfinite(self.start) & (self.start > 0)).all()):
                raise ValueError(f"Invalid start: {self.start}; it has to be positive and finite")
        if self.zero is not None and not bool(torch.isfinite(self.zero).all()):
            raise ValueError(f"Invalid zero: {self.zero}; it has to be finite")
        object.__setattr__(self, "values", values)

    @staticmethod
    def binary(*, scale: str | Tensor = "row") -> Levels:
        """Levels -1 and 1."""
        return Levels((-1.0, 1.0), scale=scale)

    @staticmethod
    def ternary(*, scale: str | Tensor = "row") -> Levels:
        """Levels -1, 0 and 1."""
        return Levels((-1.0, 0.0, 1.0), scale=scale)

    @staticmethod
    def uniform(bits: int, *, scale: str | Tensor = "row") -> Levels:
        """The integers of ``bits`` bits in two's complement, 0 among them; -1 and 1 for one bit."""
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 8:
            raise ValueError(f"Invalid bits: {bits}; an int from 1 to 8 is needed")
        if bits == 1:
            return Levels.binary(scale=scale)
        return Levels(tuple(float(k) for k in range(-(2 ** (bits - 1)), 2 ** (bits - 1))), scale=scale)

    def attach(self, param: Tensor, owner: int) -> EncodedLevels:
        """Snap ``param`` to the levels and give its state."""
        return EncodedLevels(self, param, owner)

    def spec(self) -> dict[str, Any]:
        """Give the values and the kinds of scale and zero."""
        kind = self.scale if isinstance(self.scale, str) else "fixed"
        zero = {} if self.zero is None else {"zero": "fixed"}
        return {"kind": "levels", "values": list(self.values), "scale": kind, **zero}


class EncodedLevels(Encoded):
    """A parameter's codes, scale and, until annealing takes the codes over, latent weights.

    Attributes:
        levels: ``(L,)`` the values, in the parameter's dtype.
        codes: of the parameter's shape, uint8.
        scale: broadcasts to the parameter: ``(rows, 1, ...)``, ``()`` or as it was fixed.
        zero: broadcasts to the parameter; None where the encoding has none.
        latent: of the parameter's shape, or None once the codes belong to annealing.
        learns_scale: whether the scale is trained.
    """

    latent: Tensor | None

    def __init__(self, encoding: Levels, param: Tensor, owner: int) -> None:
        super().__init__(param, owner)
        weights = param.detach()
        if not weights.is_floating_point():
            raise TypeError(f"Invalid params: {weights.dtype}; Levels need floating-point parameters")
        if weights.numel() == 0 or not bool(torch.isfinite(weights).all()):
            raise ValueError(f"Invalid params: shape {tuple(weights.shape)}; Levels need finite weights, at least one")
        self.levels = torch.tensor(encoding.values, dtype=weights.dtype, device=weights.device)  # (L,)
        self._between = (self.levels[1:] + self.levels[:-1]) / 2  # (L - 1,)
        self.learns_scale = isinstance(encoding.scale, str)
        self._dims: tuple[int, ...] = tuple(range(weights.ndim))  # what one scale extends over
        if encoding.scale == "row" and weights.ndim > 1:
            self._dims = self._dims[1:]
        self.zero = None if encoding.zero is None else _broadcast(encoding.zero, weights, "zero")
        self.codes = torch.empty_like(weights, dtype=torch.uint8)
        if isinstance(encoding.scale, Tensor):
            self.scale = _broadcast(encoding.scale, weights, "scale")
        elif encoding.start is None:
            self.scale = self._first_scale(weights)
        else:
            needed = self.sum_rows(weights).shape
            if encoding.start.numel() != needed.numel():
                raise ValueError(f"Invalid start: shape {tuple(encoding.start.shape)}; {tuple(needed)} is needed")
            self.scale = encoding.start.detach().to(weights, copy=True).view(needed)
        self._snap(weights)
        self.latent = weights.clone()
        self.write()

    @property
    def signs(self) -> Tensor:
        """``levels[codes] - zero``, of the parameter's shape and dtype."""
        return self._signs(self.codes)

    def write(self) -> None:
        """Write codes and scale into the parameter."""
        with torch.no_grad():
            for part, scale in self._blocks():
                self.param[part] = self._signs(self.codes[part], part) * scale
        self._written = self._stamp()

    def adopt(self) -> None:
        """Snap anew if somebody else wrote the parameter, such as ``model.load_state_dict``.

        Writes through ``param.data`` in place leave no mark: they go unseen.

        Raises:
            ValueError: if it is not finite.
        """
        if self._stamp() == self._written:
            return
        blocks = ((self.param[part], self._signs(self.codes[part], part) * scale) for part, scale in self._blocks())
        if all(torch.equal(present, own) for present, own in blocks):
            self._written = self._stamp()
            return
        weights = self.param.detach().clone()
        if not bool(torch.isfinite(weights).all()):
            raise ValueError(f"Invalid params: shape {tuple(weights.shape)}; Levels need finite weights, at least one")
        if self.learns_scale:
            self.scale = self._first_scale(weights)
        self._snap(weights)
        if self.latent is not None:
            self.latent = weights
        self.write()

    def sum_rows(self, values: Tensor) -> Tensor:
        """Sum ``values`` (the parameter's shape) over the weights of each scale: the scale's shape."""
        return values.sum(self._dims, keepdim=values.ndim > len(self._dims)) if self._dims else values.clone()

    def scale_gradient(self, gradient: Tensor) -> Tensor:
        """Give d loss / d scale from d loss / d weight by the chain rule."""
        return self._join(
            [self.sum_rows(self._signs(self.codes[part], part) * gradient[part]) for part, _ in self._blocks()]
        )

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
            self._follow(self.latent)
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
        kept_index, kept_target, kept_score = [], [], []
        at = 0  # where the block begins
        for part, scale in self._blocks():
            codes, weights = self.codes[part], self.param.detach()[part].flatten()
            target = self._alternatives(codes.flatten())  # (A, n)
            signs = self.levels[target]
            if self.zero is not None:
                signs = signs - self._share(self.zero, part).expand(codes.shape).reshape(-1)
            displacement = signs * scale.expand(codes.shape).reshape(-1) - weights
            score = gradient[part].flatten() * displacement  # (A, n)
            if temperature > 0:
                score = score - temperature * gumbel(tuple(score.shape), generator, score.device)
            score, which = torch.where(displacement == 0, math.inf, score).min(0)
            if allowed is not None:
                score = torch.where(allowed[part].flatten(), score, math.inf)
            best = keep_best(score, count)
            kept_index.append(best + at)
            kept_target.append(target[which[best], best])
            kept_score.append(score[best])
            at += codes.numel()
        score = torch.cat(kept_score)
        best = keep_best(score, count)
        index, target = torch.cat(kept_index)[best], torch.cat(kept_target)[best]
        return self._moves(index, target), score[best].cpu().double()

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
            self.zero = tensors["zero"].to(self.zero, copy=True)
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
        signs = self.levels[target]
        if self.zero is not None:
            signs = signs - self.zero.expand(self.param.shape).take(index)
        return signs * self.scale.expand(self.param.shape).take(index)

    def _moves(self, index: Tensor, target: Tensor) -> Moves:
        value = self._values(index, target)
        displacement = value - self.param.detach().flatten()[index]
        owner = torch.full((len(index),), self.owner, dtype=torch.int64)
        start = torch.arange(len(index) + 1)
        return Moves(owner, index.cpu(), displacement.cpu(), value.cpu(), target.cpu(), start)

    def _alternatives(self, codes: Tensor) -> Tensor:
        """``(A, n)`` int64: the codes that each weight may move to; its own where there is no neighbour."""
        codes, count = codes.long(), len(self.levels)
        if count <= 3:
            return torch.stack([(codes + shift) % count for shift in range(1, count)])
        return torch.stack([(codes - 1).clamp(min=0), (codes + 1).clamp(max=count - 1)])

    def _blocks(self) -> Iterator[tuple[Any, Tensor]]:
        """Give ranges of rows with their scales: what is made for one is small, whatever the parameter's size."""
        rows = len(self.param) if self.param.ndim else 1
        size = max(1, CHUNK * rows // self.param.numel())
        if size >= rows:
            yield ..., self.scale
            return
        for at in range(0, rows, size):
            part = slice(at, at + size)
            yield part, self._share(self.scale, part)

    def _share(self, values: Tensor, part: Any) -> Tensor:
        """What belongs to a range of rows, of a tensor that broadcasts to the parameter."""
        own = part is not ... and values.ndim == self.param.ndim and len(values) == len(self.param)
        return values[part] if own else values

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """Put the blocks' :meth:`sum_rows` together: the scale's shape."""
        return torch.cat(list(parts)) if parts[0].ndim else torch.stack(list(parts)).sum(0)

    def _signs(self, codes: Tensor, part: Any = ...) -> Tensor:
        signs = self.levels.index_select(0, codes.flatten().int()).view(codes.shape)
        return signs if self.zero is None else signs - self._share(self.zero, part)

    def _nearest(self, weights: Tensor, scale: Tensor, part: Any = ...) -> Tensor:
        ratio = weights / scale
        if self.zero is not None:
            ratio = ratio + self._share(self.zero, part)
        if len(self._between) > 4:
            return torch.bucketize(ratio.contiguous(), self._between, right=True, out_int32=True).to(torch.uint8)
        codes = torch.zeros_like(ratio, dtype=torch.uint8)
        for between in self._between:
            codes += ratio >= between
        return codes

    def _snap(self, weights: Tensor) -> None:
        """Take the codes nearest to ``weights``."""
        for part, scale in self._blocks():
            self.codes[part] = self._nearest(weights[part], scale, part)

    def _follow(self, weights: Tensor) -> None:
        """Codes nearest to ``weights``, then the least-squares scale of those codes (one Lloyd step)."""
        if not self.learns_scale:
            self._snap(weights)
            return
        products, squares = [], []
        for part, scale in self._blocks():
            codes = self._nearest(weights[part], scale, part)
            self.codes[part] = codes
            signs = self._signs(codes, part)
            products.append(self.sum_rows(weights[part] * signs))
            squares.append(self.sum_rows(signs * signs))
        scale = self._join(products) / self._join(squares)
        self.scale = torch.where(scale > 0, scale, self.scale)  # NaN where all levels are 0: as it was

    def _first_scale(self, weights: Tensor) -> Tensor:
        """The best of a few starts of Lloyd's algorithm, for each scale by its squared error."""
        rows = weights.abs().amax(self._dims, keepdim=weights.ndim > len(self._dims)) if self._dims else weights.abs()
        widest = torch.where(rows > 0, rows, torch.ones_like(rows)) / self.levels.abs().max()
        best, least = widest, torch.full_like(widest, math.inf)
        for fraction in (2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25):  # above 1 where levels lean to one side
            self.scale = widest * fraction
            for _ in range(4):
                self._follow(weights)
            error = self._error(weights)
            best = torch.where(error < least, self.scale, best)
            least = torch.minimum(error, least)
        return best

    def _error(self, weights: Tensor) -> Tensor:
        """The squared error of snapping ``weights`` under the present scale: the scale's shape."""
        errors = []
        for part, scale in self._blocks():
            snapped = self._signs(self._nearest(weights[part], scale, part), part) * scale
            errors.append(self.sum_rows((weights[part] - snapped).square()))
        return self._join(errors)


def _broadcast(values: Tensor, weights: Tensor, name: str) -> Tensor:
    """A copy in the weights' dtype; ValueError where it does not broadcast to them."""
    try:
        values.expand(weights.shape)
    except RuntimeError as error:
        given, needed = tuple(values.shape), tuple(weights.shape)
        raise ValueError(f"Invalid {name}: shape {given}; it has to broadcast to {needed}") from error
    return values.detach().to(weights, copy=True)
