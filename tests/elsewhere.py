"""A second device for machines that have one: tensors that are kept on the CPU and say that they are not there.

Inside of `two_devices()`, ``.to(ELSEWHERE)`` moves tensors there. As on a GPU, an operation on tensors of both devices
is an error, numpy cannot read them, and results stay where their arguments are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")  # a name that every torch takes; what it computes on this device is not asked for


class There(Tensor):
    """A tensor elsewhere, around one on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor) -> Any:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.shape, device=ELSEWHERE, **layout)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


class two_devices(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: Any, kwargs: Any) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if len({isinstance(tensor, There) for tensor in tensors if tensor.ndim}) > 1:
        raise RuntimeError(f"{operation} on tensors of two devices")
    device = kwargs.get("device")
    there = any(isinstance(tensor, There) for tensor in tensors) if device is None else device == ELSEWHERE
    result = operation(*tree_map(_here, args), **tree_map(_here, kwargs))
    return tree_map(lambda leaf: There(leaf) if there and isinstance(leaf, Tensor) else leaf, result)


def _here(leaf: Any) -> Any:
    if isinstance(leaf, There):
        return leaf.held
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf
