"""Gradients of random projections of a model's outputs, at the outputs of its layers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qanneal_opt.curvature.coherent import add_samples, samples
from qanneal_opt.curvature.moments import Gram
from qanneal_opt.curvature.rows import Rows, first_argument


class OutputMoments:
    """Sums of the gradients that come to the outputs of layers, while it is entered.

    No weight asks for its gradient meanwhile: a number that is added to a layer's output, 0, starts the graph.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Rows],
        projections: int,
        seed: int,
        *,
        coherent: bool = False,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.sums = {layer.name: Gram(precision) for layer in layers}
        # Of the inputs, sample by sample; if `coherent`.
        self.samples = {layer.name: Gram(precision) for layer in layers}
        self._coherent = coherent
        self._model, self._layers, self._projections = model, layers, projections
        self._generator = torch.Generator().manual_seed(seed)
        self._starts: list[Tensor] = []
        self._mask: Tensor | None = None

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Hooks are in place, and gradients are on."""
        handles = []
        needing = [p for p in self._model.parameters() if p.requires_grad]
        try:
            for p in needing:
                p.requires_grad_(False)
            for layer in self._layers:
                hook = self._hook(layer)
                handles += [module.register_forward_hook(hook, with_kwargs=True) for module in layer.modules]
            with torch.enable_grad():
                yield
        finally:
            for handle in handles:
                handle.remove()
            for p in needing:
                p.requires_grad_(True)
            self._starts.clear()

    def add(self, outputs: Any, mask: Tensor | None) -> None:
        """Send random signs at a batch's outputs back to the layers; those of tokens that do not count are 0.

        Raises:
            ValueError: if no output depends on a layer by a gradient.
        """
        given = tensors(outputs)
        found = [y for y in given if y.requires_grad and y.numel()]
        if given and not any(y.numel() for y in given):
            return  # a batch without samples
        if not found:
            raise ValueError(
                "Invalid objective: 'kronecker'; the model's outputs have no gradient by any layer: use 'input'"
            )
        self._mask = mask
        for k in range(self._projections):
            signs = [self._signs(y) for y in found]
            again = k + 1 < self._projections
            torch.autograd.grad(found, self._starts, signs, retain_graph=again, allow_unused=True)
        self._starts.clear()

    def _hook(self, layer: Rows) -> Callable[..., Tensor]:
        def take(module: nn.Module, x: Tensor | None, dy: Tensor) -> None:
            for rows in layer.output_rows(dy, self._mask):
                self.sums[layer.name].add(rows)
            if x is not None:
                for inputs, gradients in samples(layer, module, x, dy, self._mask):
                    add_samples(self.samples[layer.name], inputs, gradients)

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            if not output.requires_grad:
                start = output.new_zeros(()).requires_grad_()
                self._starts.append(start)
                output = output + start
            if not output.requires_grad:
                return output  # where code has switched gradients off, none comes
            x = first_argument(args, kwargs) if self._coherent else None
            output.register_hook(lambda dy: take(module, x, dy.detach()))
            return output

        return hook

    def _signs(self, output: Tensor) -> Tensor:
        bits = torch.randint(0, 2, output.shape, generator=self._generator, dtype=torch.int8)
        signs = (2 * bits - 1).to(output)
        mask = self._mask
        if mask is not None and output.shape[: mask.ndim] == mask.shape:
            signs *= mask.view(*mask.shape, *[1] * (output.ndim - mask.ndim))
        return signs


def tensors(value: Any) -> list[Tensor]:
    """Floating-point tensors in nested mappings, tuples and dataclasses.

    >>> [len(t) for t in tensors({"a": torch.zeros(1), "b": (torch.zeros(2), None, torch.zeros(3).long())})]
    [1, 2]
    """
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    elif dataclasses.is_dataclass(value):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        return []
    return [tensor for part in parts for tensor in tensors(part)]
