"""Quadratic models of displacements, and affine encodings of displacements in bits: how a model becomes a QUBO."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from qanneal_opt.floats import as_floats, as_tensor, shape_of, symmetrised
from qanneal_opt.qubo import Qubo


@dataclass(frozen=True, eq=False)
class Affine:
    """Displacements ``d = offset + matrix b`` for bits b in {0, 1}^m.

    A column with one nonzero moves one weight; with two it is a swap (one weight goes, another comes).

    Args:
        offset: ``(n,)``, what all bits at zero decode to.
        matrix: ``(n, m)``. Both are finite and become float64.
        word: so many columns in a row belong to one weight, as in :class:`Qubo`.

    >>> Affine([0.0, 0.0], [[2.0, 0.0], [0.0, -1.0]]).decode([[0, 1], [1, 1]]).tolist()
    [[0.0, -1.0], [2.0, -1.0]]
    """

    offset: Tensor
    matrix: Tensor
    word: int = 1

    def __post_init__(self) -> None:
        offset, matrix = as_floats(self.offset, "offset"), as_floats(self.matrix, "matrix")
        if offset.ndim != 1:
            raise ValueError(f"Invalid offset: shape {shape_of(offset)}; must be (n,)")
        if matrix.ndim != 2 or matrix.shape[0] != offset.shape[0]:
            raise ValueError(f"Invalid matrix: shape {shape_of(matrix)}; must be ({offset.shape[0]}, m)")
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "matrix", matrix)

    def decode(self, bits: Any) -> Tensor:
        """Displacements of ``bits``: ``(m,)`` -> ``(n,)``, ``(R, m)`` -> ``(R, n)``, float64."""
        b = as_tensor(bits).to(self.matrix.device)
        if b.ndim not in (1, 2) or b.shape[-1] != self.matrix.shape[1]:
            m = self.matrix.shape[1]
            raise ValueError(f"Invalid bits: shape {shape_of(b)}; must be ({m},) or (R, {m})")
        return self.offset + b.to(torch.float64) @ self.matrix.T


class _Encoding(Protocol):
    def affine(self, n: int) -> Affine: ...


@dataclass(frozen=True, eq=False)
class QuadraticModel:
    """``f(w + d) - f(w) ~ g.d + d'Hd/2`` for displacements d of n chosen weights.

    Args:
        g: ``(n,)``, the gradient.
        H: ``(n, n)``, a Hessian or a Gauss-Newton matrix, symmetric up to rounding (it is symmetrised).

    Raises:
        ValueError: a shape that does not fit, an entry that is not finite, an asymmetric matrix.

    >>> model = QuadraticModel([1.0, -2.0], [[2.0, 1.0], [1.0, 4.0]])
    >>> model([[1.0, 0.0], [1.0, 1.0]]).tolist()
    [2.0, 3.0]
    """

    g: Tensor
    H: Tensor

    def __post_init__(self) -> None:
        g, H = as_floats(self.g, "g"), as_floats(self.H, "H")
        if g.ndim != 1:
            raise ValueError(f"Invalid g: shape {shape_of(g)}; must be (n,)")
        n = g.shape[0]
        if n == 0 and H.shape == (0,):
            H = H.reshape(0, 0)
        if H.shape != (n, n):
            raise ValueError(f"Invalid H: shape {shape_of(H)}; must be ({n}, {n})")
        object.__setattr__(self, "g", g)
        object.__setattr__(self, "H", symmetrised(H, "H"))

    def __call__(self, d: Any) -> Tensor:
        """Predicted change of f: ``(n,)`` -> ``()``, ``(R, n)`` -> ``(R,)``, float64."""
        moves = as_tensor(d).to(self.g.device, torch.float64)
        if moves.ndim not in (1, 2) or moves.shape[-1] != self.g.shape[0]:
            n = self.g.shape[0]
            raise ValueError(f"Invalid d: shape {shape_of(moves)}; must be ({n},) or (R, {n})")
        return moves @ self.g + ((moves @ self.H) * moves).sum(-1) / 2

    def encode(self, encoding: Affine | _Encoding, *, weights: Any = None, l0: float = 0.0) -> Qubo:
        """The QUBO of this model over the bits of ``encoding``, with a price on nonzero weights.

        With d = offset + matrix b, its energies are

            E(b) = g.d + d'Hd/2 + l0 * #{i : weights_i + d_i != 0}

        The count is exact, and linear in b, because at most one bit may move a weight.

        Args:
            encoding: an ``Affine``, or any object whose ``affine(n)`` gives one.
            weights: ``(n,)``, the present weights; only the count reads them, and needs them.
            l0: the price of a nonzero weight, in units of f.

        Raises:
            ValueError: shapes that do not fit; a negative ``l0``; with an ``l0``: no weights, or a weight
                that several bits move.

        >>> flips = Affine([0.0, 0.0], [[-0.5, 0.0], [0.0, 0.25]])  # bit 0 zeroes the first weight
        >>> model = QuadraticModel([1.0, -2.0], [[2.0, 1.0], [1.0, 4.0]])
        >>> model.encode(flips, weights=[0.5, 0.0], l0=1.0).energies([[0, 0], [1, 0], [0, 1]]).tolist()
        [1.0, -0.25, 1.625]
        """
        n = self.g.shape[0]
        affine = encoding if isinstance(encoding, Affine) else _affine_of(encoding, n)
        if affine.offset.shape[0] != n:
            raise ValueError(f"Invalid encoding: {affine.offset.shape[0]} displacements; the model has {n}")
        offset, matrix = affine.offset.to(self.g.device), affine.matrix.to(self.g.device)  # (n,), (n, m)
        images = self.H @ matrix  # (n, m)
        quadratic = matrix.T @ images  # (m, m)
        quadratic = (quadratic + quadratic.T) / 2  # a product is symmetric up to rounding only
        linear = self.g @ matrix + offset @ images + quadratic.diagonal() / 2  # (m,), as b_k^2 = b_k
        quadratic.fill_diagonal_(0)
        constant = float(self(offset))
        if not (math.isfinite(l0) and l0 >= 0):
            raise ValueError(f"Invalid l0: {l0}; must be finite and not negative")
        if l0 > 0:
            kept, change = _count(offset, matrix, weights, l0)
            linear, constant = linear + l0 * change, constant + l0 * kept
        return Qubo(linear, quadratic, constant, affine.word)


def _affine_of(encoding: _Encoding, n: int) -> Affine:
    """``encoding.affine(n)``; TypeError for what does not offer one."""
    if not hasattr(encoding, "affine"):
        raise TypeError(f"Invalid encoding: {encoding!r}; must be an Affine or have affine(n) -> Affine")
    return encoding.affine(n)


def _count(offset: Tensor, matrix: Tensor, weights: Any, l0: float) -> tuple[int, Tensor]:
    """Number of nonzero weights with all bits at zero, and what each bit adds to it, ``(m,)``."""
    if weights is None:
        raise ValueError("Invalid weights: None; must be the present values, (n,), as l0 counts nonzero ones")
    w = as_floats(weights, "weights").to(offset.device)
    if w.shape != offset.shape:
        raise ValueError(f"Invalid weights: shape {shape_of(w)}; must be {shape_of(offset)}")
    moved = matrix != 0  # (n, m)
    if bool((moved.sum(1) > 1).any()):
        row = int((moved.sum(1) > 1).nonzero()[0])
        raise ValueError(
            f"Invalid l0: {l0}, where {int(moved[row].sum())} bits move weight {row}, so that its being zero "
            "is not linear in them; must be 0, or the encoding one in which at most one bit moves a weight"
        )
    start = w + offset  # (n,)
    before, after = start != 0, (start[:, None] + matrix) != 0  # (n,), (n, m)
    change = torch.where(moved, after.to(torch.float64) - before.to(torch.float64)[:, None], 0.0)
    return int(before.sum()), change.sum(0)
