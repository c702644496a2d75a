"""Which layers of a model can be rounded, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from qanneal_opt.compress.kinds import ConvolutionLayer, Layer, TransposedLayer


def find_layers(model: nn.Module, skip: Iterable[str] = ()) -> tuple[list[Layer], dict[str, str]]:
    """Find what can be rounded, tied weights once, and what is left alone with the reason.

    Args:
        model: any module.
        skip: names of modules, or patterns such as ``"encoder.*.query"``; what is below a module is skipped with it.

    Returns:
        Layers in the order of the model's modules; and reasons by name for all other modules that have a weight of
        two or more dimensions of their own. A weight that a skipped module shares is left alone.

    Raises:
        TypeError: if ``skip`` is not names.
        ValueError: if a pattern fits no module.
    """
    if not isinstance(skip, Iterable):
        raise TypeError(f"Invalid skip: {skip!r}; names of modules or patterns are needed")
    patterns = [skip] if isinstance(skip, str) else list(skip)
    modules = dict(model.named_modules())
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"Invalid skip: {pattern!r}; names of modules or patterns are needed")
        if not any(fnmatchcase(name, pattern) for name in modules):
            raise ValueError(f"Invalid skip: {pattern!r}; it fits no module, names are such as {_example(modules)}")
    shared = Counter(id(p) for module in modules.values() for p in module._parameters.values() if p is not None)
    found: dict[int, Layer] = {}
    alone: dict[str, str] = {}
    for name, module in modules.items():
        if not any(p is not None and p.ndim > 1 for p in module._parameters.values()) and not _computed(module):
            continue
        reason = "skipped" if _skipped(name, patterns) else _objection(module)
        if reason is not None:
            alone[name] = reason
            continue
        layer = _layer(name, module)
        first = found.setdefault(id(layer.weight), layer)
        if (type(first), first.key) != (type(layer), layer.key):
            alone[name] = "it makes other rows of its inputs"
            continue
        if first is not layer:
            first.modules.append(module)
        if shared[id(layer.weight)] > 1 or (layer.bias is not None and shared[id(layer.bias)] > 1):
            first.bias = None  # one shift cannot serve two places
    for name, reason in list(alone.items()):
        for layer in [found[id(p)] for p in modules[name]._parameters.values() if id(p) in found]:
            if reason == "skipped":
                del found[id(layer.weight)]
                alone[layer.name] = f"its weight is that of {name}, which is skipped"
            else:
                alone[name] = f"{reason}, but its weight is rounded as that of {layer.name}"
    return list(found.values()), alone


def portions(layers: Sequence[Layer], memory: float) -> Iterator[list[Layer]]:
    """Cut a list of layers so that each part's second moments fit into ``memory`` GB, or are those of one layer."""
    portion: list[Layer] = []
    for layer in layers:
        if portion and sum(other.size for other in portion) + layer.size > memory * 1e9:
            yield portion
            portion = []
        portion.append(layer)
    if portion:
        yield portion


def _layer(name: str, module: nn.Module) -> Layer:
    if isinstance(module, nn.Conv2d):
        return ConvolutionLayer(name, module)
    return (Layer if isinstance(module, nn.Linear) else TransposedLayer)(name, module)


def _objection(module: nn.Module) -> str | None:
    """Why a module cannot be rounded."""
    kind = type(module).__name__
    transposed = kind == "Conv1D" and hasattr(module, "nf")
    if not isinstance(module, (nn.Linear, nn.Conv2d)) and not transposed:
        return f"{kind} is not supported"
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other parameters"
    if isinstance(weight, nn.parameter.UninitializedParameter) or weight.is_meta:
        return "its weight has no values yet"
    if hasattr(weight, "to_local"):
        return "its weight is sharded"
    if not weight.is_floating_point():
        return f"its weight is {weight.dtype}"
    if not weight.numel():
        return "its weight is empty"
    return None


def _computed(module: nn.Module) -> bool:
    """Whether a layer that could be rounded gets its weight from elsewhere, by a parametrization for one."""
    return isinstance(module, (nn.Linear, nn.Conv2d)) and module._parameters.get("weight") is None


def _skipped(name: str, patterns: list[str]) -> bool:
    path = name.split(".")
    above = [".".join(path[: k + 1]) for k in range(len(path))]
    return any(fnmatchcase(part, pattern) for part in above for pattern in patterns)


def _example(modules: dict[str, nn.Module]) -> str:
    return next((repr(name) for name, module in modules.items() if name and _objection(module) is None), "''")
