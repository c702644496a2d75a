"""Gradient steps on discrete weights: the base trains latent copies, until the codes belong to annealing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.refit import Adam
from qanneal_opt.view import train_scales


def base_step(
    levels: Sequence[EncodedLevels], step: Callable[[], None], seen: Callable[[Tensor], bool], moving: bool
) -> None:
    """Let the base step on latent weights; of codes that belong to annealing it sees no gradient.

    Args:
        levels: the discrete parameters.
        step: takes the base's step.
        seen: whether the base has had its first look at a parameter.
        moving: whether the step is to change weights.

    Raises:
        ValueError: if a gradient is not finite; nothing moved then.
    """
    for one in levels:
        _check_finite(one.param.grad)
        one.adopt()
    trained = [one for one in levels if one.latent is not None and one.param.grad is not None]
    hidden = [(one, one.param.grad) for one in levels if one.latent is None]
    try:
        for one in trained:
            one.before_base()
        for one, _ in hidden:
            # A first look at a zero gradient: what the base keeps for a parameter depends on nothing else.
            one.param.grad = None if seen(one.param) else torch.zeros_like(one.param)
        step()
        for one in trained:
            one.after_base() if moving else one.write()
        for one, _ in hidden:
            one.after_base()
    except BaseException:
        for one in levels:
            one.write()
        raise
    finally:
        for one, grad in hidden:
            one.param.grad = grad


def scale_step(levels: Sequence[EncodedLevels], groups: Sequence[dict[str, Any]], adam: Adam) -> None:
    """Take a step on the scales of codes that belong to annealing: by the chain rule, at the groups' learning rates."""
    owned = {e.param: e for e in levels if e.latent is None and e.learns_scale and e.param.grad is not None}
    if not owned:
        return
    for group in groups:
        scaled = [owned[p] for p in dict.fromkeys(group["params"]) if p in owned]
        grads = [one.scale_gradient(one.param.grad) for one in scaled if one.param.grad is not None]
        train_scales(adam, scaled, grads, float(group.get("lr", 1e-3)))


def _check_finite(grad: Tensor | None) -> None:
    if grad is None:
        return
    bad = [x for x in (t.item() for t in grad.aminmax()) if not math.isfinite(x)]
    if bad:
        raise ValueError(
            f"Invalid gradient: {bad[0]} in a discrete parameter of shape {tuple(grad.shape)}; "
            "finite gradients are needed, and nothing was moved"
        )
