"""What callers hand over as numbers, read as float64 tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# A matrix product in float32 is asymmetric by about this much; more is a mistake.
ASYMMETRY = 1e-5


def as_tensor(value: Any) -> Tensor:
    """A tensor as it is, anything else copied through numpy, where lists of floats are float64."""
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def as_floats(value: Any, name: str) -> Tensor:
    """``value`` as a finite, detached float64 tensor (not copied where it is one already)."""
    try:
        tensor = as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Invalid {name}: {value!r}; must be a tensor, an array or numbers") from error
    if tensor.is_complex():
        raise TypeError(f"Invalid {name}: complex numbers; must be real")
    tensor = tensor.to(torch.float64)
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        raise ValueError(f"Invalid {name}: {tensor[~finite][0].item()} among its entries; must be finite")
    return tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether there is no NaN or infinity; a sum that is finite tells it in one pass."""
    return bool(tensor.sum(dtype=torch.float64).isfinite()) or bool(tensor.isfinite().all())


def symmetrised(matrix: Tensor, name: str) -> Tensor:
    """A square ``matrix`` without its asymmetry by rounding; ValueError if there is more than that."""
    transposed = matrix.mT
    if torch.equal(matrix, transposed):
        return matrix
    gap = float((matrix - transposed).abs().max())
    if gap > ASYMMETRY * float(matrix.abs().max()):
        raise ValueError(f"Invalid {name}: M and M' differ by up to {gap:g}; must be symmetric")
    return (matrix + transposed) / 2


def shape_of(tensor: Tensor) -> str:
    """Its shape as an error message quotes it."""
    return str(tuple(tensor.shape))
