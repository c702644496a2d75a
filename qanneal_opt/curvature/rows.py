"""How layers turn tensors into rows of a matrix, and a watch on what they are given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn


class Rows(Protocol):
    """What a layer makes of inputs and of output gradients: one row for each product with its weight matrix."""

    @property
    def name(self) -> str:
        """What results are told by."""

    @property
    def modules(self) -> Sequence[nn.Module]:
        """The layer; several if they share one weight."""

    @property
    def key(self) -> Hashable:
        """Layers with the same key make the same rows of the same input."""

    def input_rows(self, x: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Inputs as ``(G, N, C)``, G groups of C columns, in chunks of N."""

    def output_rows(self, dy: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Gradients at the outputs as ``(G, N, R)``."""


AnyRows = TypeVar("AnyRows", bound=Rows)


def stamp(x: Tensor) -> tuple[Any, ...]:
    """Two tensors with the same stamp are the same numbers in memory, not written in between, while one is alive."""
    version = 0 if x.is_inference() else x._version
    return x.data_ptr(), version, x.shape, x.stride(), x.dtype


def tokens(values: Tensor, mask: Tensor | None) -> Tensor:
    """The rows ``(N, C)`` of ``(..., C)`` that count; all, if the leading dimensions are not those of the mask.

    >>> tokens(torch.arange(6.0).view(1, 3, 2), torch.tensor([[True, False, True]]))
    tensor([[0., 1.],
            [4., 5.]])
    """
    rows = values.reshape(-1, values.shape[-1])
    flat = values.ndim == 2 and mask is not None and len(values) == mask.numel()
    if mask is None or not (flat or values.shape[:-1] == mask.shape) or bool(mask.all()):
        return rows
    return rows[mask.flatten()]


def first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The input of a layer, however it was given, without a graph.

    Raises:
        TypeError: if it is no tensor.
    """
    x = args[0] if args else next(iter(kwargs.values()))
    if not isinstance(x, Tensor):
        raise TypeError(f"Invalid inputs: {type(x).__name__} reaches a layer; a tensor is needed")
    return x.detach()


@contextlib.contextmanager
def watching(layers: Sequence[AnyRows], take: Callable[[AnyRows, Tensor], None]) -> Iterator[None]:
    """Hand every input that one of ``layers`` gets to ``take(layer, x)``, without a graph."""
    handles = []

    def hook_of(layer: AnyRows) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with torch.no_grad():
                take(layer, first_argument(args, kwargs))

        return hook

    try:
        for layer in layers:
            hook = hook_of(layer)
            handles += [module.register_forward_pre_hook(hook, with_kwargs=True) for module in layer.modules]
        yield
    finally:
        for handle in handles:
            handle.remove()
