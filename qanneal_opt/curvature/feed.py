"""The batches that a model is shown, as often as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from qanneal_opt.batches import call, to_device
from qanneal_opt.guards import passing

Mask = Callable[[Any], "Tensor | None"]


@dataclass(frozen=True)
class Shown:
    """One batch on the model's device, and which of its tokens count."""

    inputs: Any
    mask: Tensor | None  # bool, of the shape of the tokens


class Feed:
    """Batches for ``model``: each pass over it gives the same ones, on the model's device and without gradients.

    Args:
        model: any module.
        data: an iterable of batches, each a tensor, a tuple (positional arguments) or a mapping (keyword
            arguments). What can be read only once, such as a generator, is read here and kept. A ``DataLoader`` is
            read at each pass from one seed.
        mask: ``mask(batch)`` gives the tokens that count, a tensor of their shape, nonzero where they do, or None
            if all do. By default it is a mapping's ``attention_mask``, if it has two dimensions.

    Raises:
        TypeError: if ``data`` is one batch instead of several, or none at all.

    >>> feed = Feed(nn.Identity(), (torch.full((1,), float(k)) for k in range(2)))
    >>> [[float(shown.inputs) for shown in feed] for _ in range(2)]
    [[0.0, 1.0], [0.0, 1.0]]
    """

    def __init__(self, model: nn.Module, data: Iterable[Any], mask: Mask | None = None) -> None:
        if isinstance(data, (Tensor, Mapping, str)) or not isinstance(data, Iterable):
            raise TypeError(f"Invalid data: {type(data).__name__}; an iterable of batches is needed, such as [batch]")
        if mask is not None and not callable(mask):
            raise TypeError(f"Invalid mask: {type(mask).__name__}; a callable of a batch is needed, or None")
        self.model = model
        self._data = list(data) if isinstance(data, Iterator) else data
        self._mask = mask or _attention_mask

    def __iter__(self) -> Iterator[Shown]:
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        for batch in passing(self._data) if isinstance(self._data, DataLoader) else self._data:
            inputs = _detached(to_device(batch, device))
            mask = self._mask(inputs)
            if mask is not None and not isinstance(mask, Tensor):
                raise TypeError(f"Invalid mask: it returned {type(mask).__name__}; a tensor or None is needed")
            yield Shown(inputs, None if mask is None else mask.to(device) != 0)

    @property
    def length(self) -> int | None:
        """How many batches there are; None where the data do not know."""
        try:
            return len(self._data)  # type: ignore[arg-type]
        except TypeError:
            return None

    def run(self, shown: Shown, weights: dict[str, Tensor] | None = None) -> Any:
        """Give the model's outputs on a batch, with some of its weights replaced by others if asked for."""
        if not weights:
            return call(self.model, shown.inputs)
        if isinstance(shown.inputs, Mapping):
            return torch.func.functional_call(self.model, weights, (), dict(shown.inputs))
        given = shown.inputs if isinstance(shown.inputs, tuple) else (shown.inputs,)
        return torch.func.functional_call(self.model, weights, given)


def _detached(value: Any) -> Any:
    """Inputs that are part of no graph of the caller's."""
    if isinstance(value, Mapping):
        return {key: _detached(part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [_detached(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value.detach() if isinstance(value, Tensor) else value


def _attention_mask(batch: Any) -> Tensor | None:
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
