"""Reads a model as a stack of Linear layers; what compiled code cannot evaluate is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from qanneal_opt.steps import net

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

ACTIVATIONS: dict[type[nn.Module], Callable[[Any], tuple[int, float, float]]] = {
    nn.ReLU: lambda m: (net.LEAKY, 0.0, 0.0),
    nn.LeakyReLU: lambda m: (net.LEAKY, m.negative_slope, 0.0),
    nn.ReLU6: lambda m: (net.CLAMP, 0.0, 6.0),
    nn.Hardtanh: lambda m: (net.CLAMP, m.min_val, m.max_val),
    nn.Tanh: lambda m: (net.TANH, 0.0, 0.0),
    nn.Sigmoid: lambda m: (net.SIGMOID, 0.0, 0.0),
    nn.SiLU: lambda m: (net.SILU, 0.0, 0.0),
    nn.ELU: lambda m: (net.ELU, m.alpha, 0.0),
    nn.Softplus: lambda m: (net.SOFTPLUS, m.beta, m.threshold),
    nn.GELU: lambda m: (net.GELU, 0.0, 0.0),
}


class Unsupported(ValueError):
    """The model, the loss or the data is nothing that compiled code can evaluate; the message says why."""


@dataclass(frozen=True)
class Part:
    """A Linear layer and the activation behind it."""

    linear: nn.Linear
    kind: int = net.IDENTITY
    a: float = 0.0
    b: float = 0.0


@dataclass(frozen=True)
class Parsed:
    """A model as a stack: inputs go through ``prefix`` (no parameters) once, then through ``parts``."""

    prefix: list[nn.Module]
    parts: list[Part]
    flat: bool  # outputs have one dimension


def leaves(module: nn.Module) -> list[nn.Module]:
    """Flatten nested Sequentials; Dropout and Identity do nothing in eval mode and are left out.

    Raises:
        Unsupported: if a module has hooks or a forward of its own.
    """
    name = type(module).__name__
    if any(getattr(module, hook) for hook in HOOKS):
        raise Unsupported(f"Invalid model: {name} has hooks, which compiled code would not call")
    if "forward" in vars(module):
        raise Unsupported(f"Invalid model: the forward of this {name} has been replaced")
    if type(module).forward is nn.Sequential.forward:
        return [leaf for child in module._modules.values() if child for leaf in leaves(child)]
    return [] if type(module) in (nn.Identity, nn.Dropout) else [module]


def parse(model: nn.Module) -> Parsed:
    """Read a model as a stack of Linear layers.

    Raises:
        Unsupported: if it is none.
    """
    prefix: list[nn.Module] = []
    parts: list[Part] = []
    flat = False
    for module in leaves(model):
        kind, name = type(module), type(module).__name__
        if flat:
            raise Unsupported(f"Invalid model: {name} behind the Flatten of the outputs")
        if kind is nn.Linear:
            parts.append(Part(check_linear(module)))
        elif kind is nn.Flatten and not parts:
            prefix.append(module)
        elif kind is nn.Flatten:
            if module.end_dim not in (-1, 1) or module.start_dim not in (0, 1):
                raise Unsupported(f"Invalid model: {module} behind a Linear; start_dim 0 or 1 is needed")
            flat = bool(module.start_dim == 0)
        elif kind in ACTIVATIONS and getattr(module, "approximate", "none") == "none":
            if not parts:
                prefix.append(module)
            elif parts[-1].kind != net.IDENTITY:
                raise Unsupported(f"Invalid model: {name} behind another activation")
            else:
                parts[-1] = Part(parts[-1].linear, *ACTIVATIONS[kind](module))
        else:
            known = ", ".join(sorted(activation.__name__ for activation in ACTIVATIONS))
            raise Unsupported(f"Invalid model: {module}; a Sequential of Linear, Flatten, Dropout, {known} works")
    if not parts:
        raise Unsupported("Invalid model: it has no Linear layer")
    parameters = [id(p) for part in parts for p in (part.linear.weight, part.linear.bias) if p is not None]
    if len(set(parameters)) < len(parameters):
        raise Unsupported("Invalid model: two layers share a parameter")
    for one, two in pairwise(parts):
        if one.linear.out_features != two.linear.in_features:
            raise Unsupported(f"Invalid model: {two.linear} cannot follow {one.linear}")
    return Parsed(prefix, parts, flat)


def check_linear(module: nn.Module) -> nn.Linear:
    """Refuse what is a Linear by name only."""
    assert isinstance(module, nn.Linear)
    for p in (module.weight, module.bias):
        if p is None:
            continue
        if type(p) is not nn.Parameter or p.dtype != torch.float32 or p.device.type == "meta":
            found = f"{type(p).__name__} of {p.dtype} on {p.device}"
            raise Unsupported(f"Invalid model: a {found}; float32 Parameters are needed")
    return module
