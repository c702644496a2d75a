"""Kinds of layers that can be rounded, each as a matrix: what it does to rows of inputs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

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
