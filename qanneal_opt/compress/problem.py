"""What rounding a weight matrix costs, and a rounded one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from qanneal_opt.compress.forms import quadratic
from qanneal_opt.compress.grid import Grid
from qanneal_opt.floats import all_finite, shape_of

__all__ = ["Problem", "Rounded"]


@dataclass(frozen=True, eq=False)
class Problem:
    r"""The layer's error :math:`f(V) = \mathrm{tr}(G (V - W) H (V - W)^\top)`.

    Args:
        weight: ``(R, C)``: the target W.
        moment: ``(C, C)``: H, the mean of x x' over the inputs x, not centred.
        mean: ``(C,)``: the mean of x, where the bias may absorb the mean error; H is centred then.
        output: ``(R, R)``: G, the second moment of the gradients of the outputs; ``None`` for the identity.
    """

    weight: Tensor
    moment: Tensor
    mean: Tensor | None = None
    output: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or not self.weight.numel():
            raise ValueError(f"Invalid weight: shape {shape_of(self.weight)}; must be a matrix with entries")
        rows, columns = self.weight.shape
        shapes = {"moment": (columns, columns), "mean": (columns,), "output": (rows, rows), "weight": (rows, columns)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"Invalid {name}: shape {shape_of(value)}; must be {shape}")
            if value is not None and not all_finite(value):
                raise ValueError(f"Invalid {name}: NaN or infinity among its entries; must be finite")

    @cached_property
    def centred(self) -> Tensor:
        """H of the objective, float64: centred if there is a mean."""
        H = self.moment.double()
        return H if self.mean is None else torch.addr(H, self.mean.double(), self.mean.double(), alpha=-1)

    def objective(self, value: Tensor) -> float:
        """The value of f at weights ``(R, C)``."""
        difference = value.double() - self.weight.double()
        if self.output is None:
            total = quadratic(difference, self.centred).sum()
        else:
            total = (self.output.double() @ difference @ self.centred * difference).sum()
        return max(float(total), 0.0)  # H that inputs without variance leave is rounding errors


@dataclass(frozen=True, eq=False)
class Rounded:
    """A rounded matrix.

    Args:
        codes: ``(R, C)`` uint8.
        grid: of the codes.
        bias_shift: ``(R,)`` float32, to be added to the bias; ``None`` without a mean.
        objective: f of nearest rounding, of GPTQ, and of what is returned, ``rtn``, ``gptq``, ``final``.
        seconds: all it took.
        note: what was out of the ordinary, or empty.
    """

    codes: Tensor
    grid: Grid
    bias_shift: Tensor | None
    objective: dict[str, float]
    seconds: float
    note: str = ""
