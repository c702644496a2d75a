"""Losses that annealing knows by name, and one that torch does not have.

Any loss works on the general paths. The ones recognised by :func:`describe` are evaluated by compiled
code as well, because their change under a move of one weight has a closed form.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class LossSpec:
    """What compiled code needs to know of a loss; every loss is a mean over its elements or samples."""

    kind: Literal["cross_entropy", "mse", "hinge"]
    smoothing: float = 0.0
    margin: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Hinge:
    """``mean(max(0, margin - y * output / scale) ** 2)``; made by :func:`hinge`."""

    margin: float
    scale: float = 1.0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the mean over all elements; outputs and targets have one shape, or ``(N, 1)`` and ``(N,)``."""
        targets = targets.reshape(outputs.shape).to(outputs.dtype)
        return (self.margin - targets * outputs / self.scale).clamp(min=0.0).square().mean()


def hinge(margin: float, scale: float = 1.0) -> Hinge:
    """Squared hinge loss with a margin: ``mean(max(0, margin - y * output / scale) ** 2)``.

    It asks each pattern to be right by ``margin``, which is what lets annealing of binary weights see a
    slope before the last error is gone.

    Args:
        margin: by how much each output has to be on its label's side, in units of ``scale``.
        scale: what outputs are divided by, such as ``sqrt(N)`` for a sum of N terms of size one.

    Returns:
        A loss of ``(outputs, targets)`` for labels -1 and 1, usable wherever torch losses are.

    Raises:
        ValueError: if ``margin`` is not finite, or ``scale`` is not positive and finite.

    >>> loss = hinge(margin=0.5)
    >>> loss(torch.tensor([1.0, 0.25]), torch.tensor([1.0, -1.0]))
    tensor(0.2812)
    """
    if not math.isfinite(margin):
        raise ValueError(f"Invalid margin: {margin}; a finite number is needed")
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"Invalid scale: {scale}; a positive finite number is needed")
    return Hinge(float(margin), float(scale))


def describe(loss: Loss) -> LossSpec | None:
    """Recognise a loss by what it is: a :class:`LossSpec`, or None for a loss only its author knows.

    ``functools.partial`` of a recognised function counts, as long as it fixes nothing but
    ``label_smoothing`` and a mean ``reduction``.
    """
    if isinstance(loss, Hinge):
        return LossSpec("hinge", margin=loss.margin, scale=loss.scale)
    if type(loss) is torch.nn.CrossEntropyLoss:
        plain = loss.weight is None and loss.ignore_index == -100 and loss.reduction == "mean"
        return LossSpec("cross_entropy", smoothing=loss.label_smoothing) if plain else None
    if type(loss) is torch.nn.MSELoss:
        return LossSpec("mse") if loss.reduction == "mean" else None
    options: dict[str, Any] = {}
    if isinstance(loss, functools.partial) and not loss.args:
        options = dict(loss.keywords)
        loss = loss.func
    if options.pop("reduction", "mean") != "mean":
        return None
    if loss is functional.cross_entropy and options.keys() <= {"label_smoothing"}:
        return LossSpec("cross_entropy", smoothing=float(options.get("label_smoothing", 0.0)))
    if loss is functional.mse_loss and not options:
        return LossSpec("mse")
    return None


def smoothed(loss: Loss, smoothing: float) -> Loss:
    """Give the same cross-entropy with targets ``(1 - smoothing) onehot + smoothing / C``.

    Raises:
        ValueError: if ``smoothing`` is outside [0, 1), or ``loss`` is not a plain cross-entropy.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"Invalid smoothing: {smoothing}; a number in [0, 1) is needed")
    if smoothing == 0.0:
        return loss
    spec = describe(loss)
    if spec is None or spec.kind != "cross_entropy":
        raise ValueError(f"Invalid smoothing: {smoothing}; it needs cross_entropy as the loss, not {loss!r}")
    return functools.partial(functional.cross_entropy, label_smoothing=smoothing)
