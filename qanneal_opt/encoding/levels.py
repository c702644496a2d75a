"""Discrete weights: each one of a few levels times a scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.checks import check_int
from qanneal_opt.encoding.encoded_levels import EncodedLevels


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
        check_int("bits", bits, 1, 8)
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
