"""The samples that an objective is a mean over, a batch at a time on the model's device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from qanneal_opt.guards import passing

Pair = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples on the model's device; ``size`` is their number, or the sum of their weights."""

    inputs: Any
    targets: Any
    weights: Tensor | None  # (N,)
    size: float


def check(data: Any, batch_size: int | None, weights: Tensor | None) -> None:
    """Refuse what is neither a pair nor a loader, and lengths that disagree."""
    if isinstance(data, DataLoader):
        if weights is not None or batch_size is not None:
            name = "weights" if weights is not None else "batch_size"
            raise ValueError(f"Invalid {name}: a DataLoader has its own; give an (inputs, targets) pair for it")
        return
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        given = type(data).__name__
        raise TypeError(f"Invalid data: {given}; an (inputs, targets) pair, a DataLoader or a callable is needed")
    lengths = {length(leaf) for part in data for leaf in _leaves(part) or [part]}
    if weights is not None:
        lengths.add(len(weights))
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"Invalid data: lengths {sorted(lengths)}; equal and positive ones are needed")


def read(
    data: Pair | DataLoader[Any], device: torch.device, batch_size: int | None, weights: Tensor | None
) -> Iterator[Batch]:
    """Go through the samples once; batches of no weight are left out.

    Args:
        data: an ``(inputs, targets)`` pair, or a loader of pairs.
        device: where batches go.
        batch_size: samples a batch of a pair; all at once if None.
        weights: ``(N,)`` of a pair's samples; 1 each if None.

    Raises:
        TypeError: if a loader gives anything but pairs.
        ValueError: if there is no sample.
    """
    empty = True
    for batch in _loaded(data, device) if isinstance(data, DataLoader) else _sliced(data, device, batch_size, weights):
        if batch.size > 0:
            empty = False
            yield batch
    if empty:
        raise ValueError(f"Invalid data: {type(data).__name__} without samples; at least one is needed")


def length(leaf: Any) -> int:
    """How many samples a tensor holds; TypeError for what has none."""
    if not isinstance(leaf, Tensor) or leaf.ndim == 0:
        given = f"a tensor of shape {tuple(leaf.shape)}" if isinstance(leaf, Tensor) else type(leaf).__name__
        raise TypeError(f"Invalid data: {given}; tensors with a sample dimension are needed")
    return len(leaf)


def to_device(value: Any, device: torch.device, part: slice | None = None) -> Any:
    """Move every tensor in nested mappings and tuples, or a part of its samples; all else stays as it is."""
    if isinstance(value, Mapping):
        return {key: to_device(leaf, device, part) for key, leaf in value.items()}
    if isinstance(value, (tuple, list)):
        moved = [to_device(leaf, device, part) for leaf in value]
        return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)
    if not isinstance(value, Tensor):
        return value
    return (value if part is None else value[part]).to(device, non_blocking=True)


def call(model: nn.Module, inputs: Any) -> Any:
    """Run ``model`` on a tensor, a tuple (positional arguments) or a mapping (keyword arguments)."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def _sliced(data: Pair, device: torch.device, batch_size: int | None, weights: Tensor | None) -> Iterator[Batch]:
    inputs, targets = data
    count = length(_leaves(targets)[0])
    size = batch_size or count
    for at in range(0, count, size):
        part = slice(at, at + size) if size < count else None
        mine = None if weights is None else weights[part or slice(None)]
        total = float(min(size, count - at) if mine is None else mine.sum())
        yield Batch(to_device(inputs, device, part), to_device(targets, device, part), to_device(mine, device), total)


def _loaded(loader: DataLoader[Any], device: torch.device) -> Iterator[Batch]:
    for item in passing(loader):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            given = f"a DataLoader that gives {type(item).__name__}"
            raise TypeError(f"Invalid data: {given}; (inputs, targets) pairs are needed")
        inputs, targets = to_device(tuple(item), device)
        yield Batch(inputs, targets, None, float(length(next(iter(_leaves(targets)), targets))))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]
