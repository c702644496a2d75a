"""The layers of a model that can be rounded, each as a matrix: what it does to rows of inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn import functional

from qanneal_opt.curvature.rows import tokens

_CHUNK = 2**24  # entries of unfolded inputs at a time: 64 MB


class Layer:
    """A linear layer: ``y = x W' + b`` for rows x, with W of shape ``(R, C)``.

    Attributes:
        name: of the module, or of the first one whose weight it is.
        modules: those that share the weight.
        weight: the parameter.
        bias: the parameter that can take up a shift of the mean output, or None.
        groups: the first R / groups rows act on the first C inputs, and so on.
    """

    groups = 1
    by_rows = True  # row r of the matrix is the parameter's entry r

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name = name
        self.modules = [module]
        self.weight: nn.Parameter = module._parameters["weight"]  # type: ignore[assignment]
        self.bias: nn.Parameter | None = module._parameters.get("bias")

    @property
    def kind(self) -> str:
        """The name of the module's class."""
        return type(self.modules[0]).__name__

    @property
    def key(self) -> Hashable:
        """What decides how inputs become rows."""
        return ("rows", self.matrix().shape[1])

    @property
    def size(self) -> int:
        """Bytes of the second moments of inputs, of both kinds, and output gradients, float64."""
        rows, columns = self.matrix().shape
        return 8 * self.groups * (2 * columns**2 + (rows // self.groups) ** 2)

    def matrix(self) -> Tensor:
        """The weights as they are, ``(R, C)``."""
        return self.weight.detach()

    def assembled(self, matrix: Tensor) -> Tensor:
        """A matrix in the shape of the parameter."""
        return matrix

    def parts(self) -> Iterator[slice]:
        """The rows of each group."""
        step = len(self.matrix()) // self.groups
        return (slice(at, at + step) for at in range(0, step * self.groups, step))

    def input_rows(self, x: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Inputs ``(..., C)`` as ``(1, N, C)``."""
        yield tokens(x, mask)[None]

    def output_rows(self, dy: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Gradients ``(..., R)`` as ``(1, N, R)``."""
        yield tokens(dy, mask)[None]


class TransposedLayer(Layer):
    """The ``Conv1D`` of transformers' GPT-2: a linear layer whose parameter is W'."""

    by_rows = False

    def matrix(self) -> Tensor:
        """The weights as they are, ``(R, C)``."""
        return self.weight.detach().T

    def assembled(self, matrix: Tensor) -> Tensor:
        """A matrix in the shape of the parameter."""
        return matrix.T


class ConvolutionLayer(Layer):
    """A ``Conv2d``: a linear layer on patches, C = channels of a group times the kernel's height and width."""

    def __init__(self, name: str, module: nn.Conv2d) -> None:
        super().__init__(name, module)
        self._module = module
        self.groups = module.groups

    @property
    def key(self) -> Hashable:
        """What decides how inputs become rows."""
        m = self._module
        padding = tuple(m._reversed_padding_repeated_twice)
        return ("patches", m.in_channels, m.groups, m.kernel_size, m.stride, m.dilation, padding, m.padding_mode)

    def matrix(self) -> Tensor:
        """The weights as they are, ``(R, C)``."""
        return self.weight.detach().flatten(1)

    def assembled(self, matrix: Tensor) -> Tensor:
        """A matrix in the shape of the parameter."""
        return matrix.view(self.weight.shape)

    def input_rows(self, x: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Images ``(N, channels, height, width)`` as patches ``(groups, N * places, C)``."""
        m = self._module
        images = x if x.ndim == 4 else x[None]
        step = max(1, _CHUNK // max(1, images[0].numel() * m.kernel_size[0] * m.kernel_size[1]))
        for part in images.split(step):
            mode = "constant" if m.padding_mode == "zeros" else m.padding_mode
            padded = functional.pad(part, m._reversed_padding_repeated_twice, mode=mode)
            patches = functional.unfold(padded, m.kernel_size, m.dilation, stride=m.stride)  # (N, channels * k, places)
            grouped = patches.view(len(part), m.groups, -1, patches.shape[-1])
            yield grouped.permute(1, 0, 3, 2).flatten(1, 2)

    def output_rows(self, dy: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Gradients ``(N, R, height, width)`` as ``(groups, N * places, R / groups)``."""
        images = dy if dy.ndim == 4 else dy[None]
        grouped = images.flatten(2).unflatten(1, (self.groups, -1))  # (N, groups, R / groups, places)
        yield grouped.permute(1, 0, 3, 2).flatten(1, 2)


def find_layers(model: nn.Module, skip: Iterable[str] = ()) -> tuple[list[Layer], dict[str, str]]:
    """Find what can be rounded, tied weights once, and what is left alone with the reason.

    Args:
        model: any module.
        skip: names of modules, or patterns such as ``"encoder.*.query"``; what is below a module is skipped with it.

    Returns:
        Layers in the order of the model's modules; and reasons by name for all other modules that have a weight of
        two or more dimensions of their own.

    Raises:
        TypeError: if ``skip`` is not names.
        ValueError: if a pattern fits no module.
    """
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
        if first is not layer:
            if type(first) is not type(layer):
                alone[name] = f"its weight is that of {first.name}, as another kind of layer"
                continue
            first.modules.append(module)
        if shared[id(layer.weight)] > 1 or (layer.bias is not None and shared[id(layer.bias)] > 1):
            first.bias = None  # one shift cannot serve two places
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
