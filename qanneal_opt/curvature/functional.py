"""An objective's batches as functions of n displacements, for the transforms of ``torch.func``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from qanneal_opt.batches import Batch
from qanneal_opt.objective import Objective
from qanneal_opt.subset import Subset

Forward = Callable[[Tensor], Any]  # displacements (n,) -> the model's outputs on one batch


class _Shell(nn.Module):
    """Lets ``functional_call`` swap the model's weights while the objective itself feeds it the batch."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.model = objective.model
        self.objective = objective

    def forward(self, batch: Batch) -> Any:
        return self.objective.forward(batch)


def displaced(objective: Objective, subset: Subset, batch: Batch) -> Forward:
    """Give the function d -> outputs of the model on ``batch`` with ``subset`` moved by d, ``(n,)``."""
    shell = _Shell(objective)
    names = {id(param): name for name, param in shell.named_parameters()}
    for param in subset.params:
        if id(param) not in names:
            shape = tuple(param.shape)
            raise ValueError(f"Invalid subset: a tensor of shape {shape}; must be a parameter of the model")

    def forward(d: Tensor) -> Any:
        moved = {names[id(p)]: tensor for p, tensor in zip(subset.params, subset.displaced(d), strict=True)}
        return torch.func.functional_call(shell, moved, (batch,))

    return forward


def origin(subset: Subset) -> Tensor:
    """No displacement, ``(n,)``."""
    device = subset.params[0].device if subset.params else torch.device("cpu")
    return torch.zeros(len(subset), dtype=subset.dtype, device=device)


def chunk_size(subset: Subset, chunk: int | None) -> int:
    """How many directions go through the model at a time; by default their tangents stay below 64 MB."""
    if chunk is None:
        weights = sum(param.numel() for param in subset.params)
        return max(1, min(64, 2**24 // max(weights, 1)))
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"Invalid chunk: {chunk}; a positive int or None is needed")
    return chunk


def mean_matrix(
    objective: Objective,
    subset: Subset,
    name: str,
    fast: Callable[[Forward, Batch], Tensor],
    slow: Callable[[Forward, Batch], Tensor],
) -> Tensor:
    """Average a batch's ``(n, n)`` matrix over the objective, in ``subset.dtype``; symmetric.

    ``fast`` runs under ``torch.func``. A model that these transforms cannot take (an operation without
    forward mode or batching rule, a custom ``autograd.Function``, a buffer written in eval mode, control flow
    that reads values) goes to ``slow``, which uses plain reverse mode, direction by direction.
    """
    n, total = len(subset), 0.0
    mean = torch.zeros(n, n, dtype=subset.dtype, device=origin(subset).device)
    if n == 0:
        return mean
    with objective.frozen():
        for batch in objective.batches():
            total += batch.size
            forward = displaced(objective, subset, batch)
            with differentiable():
                try:
                    with torch.no_grad():  # no outer graph
                        matrix = fast(forward, batch)
                except RuntimeError:  # NotImplementedError is one
                    with torch.enable_grad():
                        matrix = slow(forward, batch)
            mean.lerp_(matrix.to(mean), batch.size / total)
    mean = (mean + mean.T) / 2
    finite = mean.isfinite()
    if not bool(finite.all()):
        i, j = (int(k) for k in (~finite).nonzero()[0])
        raise ValueError(f"Invalid {name}: {float(mean[i, j])} at ({i}, {j}); must be finite")
    return mean


def pull(outputs: Tensor, inputs: Tensor, vector: Tensor | None) -> Tensor:
    """``vector`` through the transposed derivative of ``outputs`` by ``inputs``; zeros for unused ones."""
    if not outputs.requires_grad:
        return torch.zeros_like(inputs)
    again = vector is None or vector.requires_grad  # the product is to be differentiated once more
    (product,) = torch.autograd.grad(outputs, inputs, vector, retain_graph=True, create_graph=again, allow_unused=True)
    return torch.zeros_like(inputs) if product is None else product


@contextlib.contextmanager
def differentiable() -> Iterator[None]:
    """Attention in plain operations: its fused kernels have no second derivative, and no forward mode."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")  # no batching rule
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
