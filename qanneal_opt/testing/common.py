"""What the checks share: requirements with a reason, equality to the last bit, untouched random numbers."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def require(condition: object, reason: str) -> None:
    """Raise AssertionError with ``reason`` unless ``condition`` holds."""
    if not condition:
        raise AssertionError(reason)


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have one shape, one dtype and the same bits (-0.0 is not 0.0)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    raw = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
    return torch.equal(raw[0], raw[1])


def require_same(before: Mapping[str, Tensor], after: Mapping[str, Tensor], when: str) -> None:
    """Raise AssertionError, naming the tensor, unless both hold the same bits under the same names."""
    require(before.keys() == after.keys(), f"the names {sorted(before)} became {sorted(after)} {when}")
    for name, tensor in before.items():
        require(same(tensor, after[name]), f"{name!r} is not the same, bit for bit, {when}")


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies of named tensors."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def require_plain(value: Any, what: str) -> None:
    """Raise AssertionError unless ``value`` survives JSON: finite numbers, strings, lists, dictionaries."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} is no plain data for JSON: {error}") from error
    require(json.loads(text) == _listed(value), f"{what} does not come back from JSON as it was: {value!r}")


def _listed(value: Any) -> Any:
    """``value`` with lists for tuples, as JSON has no others."""
    if isinstance(value, Mapping):
        return {key: _listed(part) for key, part in value.items()}
    return [_listed(part) for part in value] if isinstance(value, (list, tuple)) else value


@contextlib.contextmanager
def global_numbers_untouched(what: str) -> Iterator[None]:
    """Raise AssertionError if the block draws from torch's, numpy's or Python's global generator."""
    before = _global_numbers()
    yield
    for name, state in _global_numbers().items():
        require(state == before[name], f"{what} touches the global random numbers of {name}")


def _global_numbers() -> dict[str, object]:
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002 - the global generator is what is watched
    return {"torch": torch.get_rng_state().tolist(), "numpy": repr(legacy), "Python": random.getstate()}
