"""Quadratic models of displacements, affine encodings of them in bits, and QUBOs: dense tensors, float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import dimod

__all__ = ["Affine", "QuadraticModel", "Qubo"]

# A matrix product in float32 is asymmetric by about this much; more is a mistake.
_ASYMMETRY = 1e-5


def _tensor(value: Any) -> Tensor:
    """A tensor as it is, anything else copied through numpy, where lists of floats are float64."""
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _floats(value: Any, name: str) -> Tensor:
    """``value`` as a finite, detached float64 tensor (not copied where it is one already)."""
    try:
        tensor = _tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Invalid {name}: {value!r}; must be a tensor, an array or numbers") from error
    if tensor.is_complex():
        raise TypeError(f"Invalid {name}: complex numbers; must be real")
    tensor = tensor.to(torch.float64)
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        raise ValueError(f"Invalid {name}: {tensor[~finite][0].item()} among its entries; must be finite")
    return tensor


def _symmetric(matrix: Tensor, name: str) -> Tensor:
    """A square ``matrix`` without its asymmetry by rounding; ValueError if there is more than that."""
    transposed = matrix.mT
    if torch.equal(matrix, transposed):
        return matrix
    gap = float((matrix - transposed).abs().max())
    if gap > _ASYMMETRY * float(matrix.abs().max()):
        raise ValueError(f"Invalid {name}: M and M' differ by up to {gap:g}; must be symmetric")
    return (matrix + transposed) / 2


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


@dataclass(frozen=True, eq=False)
class Qubo:
    """Energies ``offset + linear.b + b' quadratic b / 2`` of bits b in {0, 1}^n: one dense QUBO or a batch.

    ``quadratic`` is symmetric with zero diagonal; its entry (i, j) is the price of setting both bits i and j.

    Args:
        linear: ``(n,)`` for one problem, ``(B, n)`` for a batch. Tensors, arrays and lists are converted
            to float64; a float64 tensor is not copied: do not change it afterwards.
        quadratic: ``(n, n)``, in a batch shared by all its problems, or ``(B, n, n)``. Symmetric up to
            rounding (it is symmetrised), zero diagonal, on the device of ``linear``.
        offset: a number or, for a batch, ``(B,)``.

    Raises:
        ValueError: a shape that does not fit, an entry that is not finite, asymmetry, a nonzero diagonal.
        TypeError: what cannot be read as real numbers.

    >>> qubo = Qubo([-1.0, -1.0, 2.0], [[0, 3, 0], [3, 0, 0], [0, 0, 0]], offset=0.5)
    >>> qubo.energies([[0, 0, 0], [1, 0, 0], [1, 1, 1]]).tolist()
    [0.5, -0.5, 3.5]
    """

    linear: Tensor
    quadratic: Tensor
    offset: float | Tensor = 0.0

    def __post_init__(self) -> None:
        linear = _floats(self.linear, "linear")
        if linear.ndim not in (1, 2):
            raise ValueError(f"Invalid linear: shape {_shape(linear)}; must be (n,) or, for a batch, (B, n)")
        n = linear.shape[-1]
        quadratic = _floats(self.quadratic, "quadratic")
        if n == 0 and quadratic.shape == (0,):  # how [] reads
            quadratic = quadratic.reshape(0, 0)
        allowed = [(n, n)] if linear.ndim == 1 else [(n, n), (linear.shape[0], n, n)]
        if tuple(quadratic.shape) not in allowed:
            valid = " or ".join(map(str, allowed))
            given = f"shape {_shape(quadratic)} with linear of shape {_shape(linear)}"
            raise ValueError(f"Invalid quadratic: {given}; must be {valid}")
        if quadratic.device != linear.device:
            raise ValueError(f"Invalid quadratic: on {quadratic.device}; must be on {linear.device}, as linear")
        quadratic = _symmetric(quadratic, "quadratic")
        diagonal = quadratic.diagonal(dim1=-2, dim2=-1)
        if bool(diagonal.any()):
            largest = float(diagonal.abs().max())
            raise ValueError(
                f"Invalid quadratic: {largest:g} on its diagonal; must be zero there, as b^2 = b is linear "
                "(Qubo.from_matrix takes a matrix with a diagonal)"
            )
        offset = _floats(self.offset, "offset")
        if offset.ndim and (linear.ndim == 1 or offset.shape != linear.shape[:1]):
            valid = "a number" if linear.ndim == 1 else f"a number or of shape {_shape(linear[:, 0])}"
            raise ValueError(f"Invalid offset: shape {_shape(offset)}; must be {valid}")
        object.__setattr__(self, "linear", linear)
        object.__setattr__(self, "quadratic", quadratic)
        object.__setattr__(self, "offset", offset.to(linear.device) if offset.ndim else float(offset))

    @property
    def n(self) -> int:
        """Number of variables."""
        return self.linear.shape[-1]

    @property
    def batch(self) -> int | None:
        """Number of problems, ``None`` for a single one."""
        return None if self.linear.ndim == 1 else self.linear.shape[0]

    def problem(self, i: int = 0) -> Qubo:
        """Problem ``i`` of a batch as a single Qubo sharing its memory; a negative ``i`` counts from the end.

        Raises:
            IndexError: no such problem. A single Qubo is its own problem 0.
        """
        count = 1 if self.batch is None else self.batch
        if not -count <= i < count:
            raise IndexError(f"Invalid i: {i}; there are {count} problems")
        if self.batch is None:
            return self
        part = object.__new__(Qubo)  # its parts were validated with the batch
        quadratic = self.quadratic if self.quadratic.ndim == 2 else self.quadratic[i]
        offset = self.offset[i] if isinstance(self.offset, Tensor) else self.offset
        object.__setattr__(part, "linear", self.linear[i])
        object.__setattr__(part, "quadratic", quadratic)
        object.__setattr__(part, "offset", float(offset))
        return part

    def energies(self, bits: Any) -> Tensor:
        """``offset + linear.b + b' quadratic b / 2``, float64.

        Args:
            bits: zeros and ones of any dtype: ``(n,)`` -> ``()``, ``(R, n)`` -> ``(R,)``; for a batch
                ``(B, R, n)`` -> ``(B, R)``.

        Raises:
            ValueError: another shape, or an entry other than 0 and 1.
        """
        b = _tensor(bits).to(self.linear.device)
        n, batch = self.n, self.batch
        if batch is None and (b.ndim not in (1, 2) or b.shape[-1] != n):
            raise ValueError(f"Invalid bits: shape {_shape(b)}; must be ({n},) or (R, {n})")
        if batch is not None and (b.ndim != 3 or b.shape[0] != batch or b.shape[2] != n):
            raise ValueError(f"Invalid bits: shape {_shape(b)}; must be ({batch}, R, {n})")
        if bool(((b != 0) & (b != 1)).any()):
            raise ValueError("Invalid bits: entries other than 0 and 1")
        b = b.to(torch.float64)
        fields = b @ self.quadratic  # as b; b_j times the sum of its couplings counts each pair twice
        if batch is None:
            return self.offset + b @ self.linear + (fields * b).sum(-1) / 2
        offset = self.offset[:, None] if isinstance(self.offset, Tensor) else self.offset
        return offset + (b @ self.linear[:, :, None])[..., 0] + (fields * b).sum(-1) / 2

    def to_bqm(self, i: int = 0) -> dimod.BinaryQuadraticModel:
        """Problem ``i`` as a BINARY ``dimod`` model on the variables 0 .. n - 1, without its zero couplings.

        Built from arrays, which is 10 to 28 times faster than from dictionaries (n = 32 to 1000).
        """
        import dimod

        one = self.problem(i)
        bqm = dimod.BinaryQuadraticModel(one.n, dimod.BINARY)
        if one.n:
            linear: Any = one.linear.cpu().numpy()  # dimod types it as a sequence, and is fast on arrays
            bqm.add_linear_from_array(linear)
            bqm.add_quadratic_from_dense(one.quadratic.triu(1).cpu().numpy())
        bqm.offset = one.offset
        return bqm

    @classmethod
    def from_bqm(cls, bqm: dimod.BinaryQuadraticModel) -> Qubo:
        """The same energies as ``bqm`` has, variable k being ``list(bqm.variables)[k]``.

        A SPIN model is read with s = 2b - 1; ``bqm`` itself is left as it is.

        >>> import dimod
        >>> bqm = dimod.BinaryQuadraticModel({"a": 1.0}, {("a", "b"): 2.0}, 0.0, "SPIN")
        >>> Qubo.from_bqm(bqm).linear.tolist()
        [-2.0, -4.0]
        """
        import dimod

        if not isinstance(bqm, dimod.BinaryQuadraticModel):
            raise TypeError(f"Invalid bqm: {type(bqm).__name__}; must be a dimod.BinaryQuadraticModel")
        if bqm.vartype is not dimod.BINARY:
            bqm = bqm.change_vartype(dimod.BINARY, inplace=False)
        n = bqm.num_variables
        vectors = bqm.to_numpy_vectors(variable_order=list(bqm.variables))
        linear, (row, column, value) = vectors[0], vectors[1]
        rows, columns = (torch.from_numpy(index.astype("int64")) for index in (row, column))
        quadratic = torch.zeros(n, n, dtype=torch.float64)  # (n, n)
        quadratic[rows, columns] = torch.from_numpy(value.astype("float64"))
        return cls(torch.from_numpy(linear.astype("float64")), quadratic + quadratic.T, float(bqm.offset))

    @classmethod
    def from_matrix(cls, Q: Any) -> Qubo:
        """Energies ``b' Q b`` for any square ``Q``, ``(n, n)`` or ``(B, n, n)``; its diagonal is linear.

        >>> Qubo.from_matrix([[1.0, 2.0], [0.0, -1.0]]).energies([1, 1]).item()
        2.0
        """
        matrix = _floats(Q, "Q")
        if matrix.shape == (0,):
            matrix = matrix.reshape(0, 0)
        if matrix.ndim not in (2, 3) or matrix.shape[-1] != matrix.shape[-2]:
            raise ValueError(f"Invalid Q: shape {_shape(matrix)}; must be (n, n) or (B, n, n)")
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)  # (n,) or (B, n)
        return cls(diagonal.clone(), matrix + matrix.mT - 2 * torch.diag_embed(diagonal))


@dataclass(frozen=True, eq=False)
class Affine:
    """Displacements ``d = offset + matrix b`` for bits b in {0, 1}^m.

    A column with one nonzero moves one weight; with two it is a swap (one weight goes, another comes).

    Args:
        offset: ``(n,)``, what all bits at zero decode to.
        matrix: ``(n, m)``. Both are finite and become float64.

    >>> Affine([0.0, 0.0], [[2.0, 0.0], [0.0, -1.0]]).decode([[0, 1], [1, 1]]).tolist()
    [[0.0, -1.0], [2.0, -1.0]]
    """

    offset: Tensor
    matrix: Tensor

    def __post_init__(self) -> None:
        offset, matrix = _floats(self.offset, "offset"), _floats(self.matrix, "matrix")
        if offset.ndim != 1:
            raise ValueError(f"Invalid offset: shape {_shape(offset)}; must be (n,)")
        if matrix.ndim != 2 or matrix.shape[0] != offset.shape[0]:
            raise ValueError(f"Invalid matrix: shape {_shape(matrix)}; must be ({offset.shape[0]}, m)")
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "matrix", matrix)

    def decode(self, bits: Any) -> Tensor:
        """Displacements of ``bits``: ``(m,)`` -> ``(n,)``, ``(R, m)`` -> ``(R, n)``, float64."""
        b = _tensor(bits).to(self.matrix.device)
        if b.ndim not in (1, 2) or b.shape[-1] != self.matrix.shape[1]:
            m = self.matrix.shape[1]
            raise ValueError(f"Invalid bits: shape {_shape(b)}; must be ({m},) or (R, {m})")
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
        g, H = _floats(self.g, "g"), _floats(self.H, "H")
        if g.ndim != 1:
            raise ValueError(f"Invalid g: shape {_shape(g)}; must be (n,)")
        n = g.shape[0]
        if n == 0 and H.shape == (0,):
            H = H.reshape(0, 0)
        if H.shape != (n, n):
            raise ValueError(f"Invalid H: shape {_shape(H)}; must be ({n}, {n})")
        object.__setattr__(self, "g", g)
        object.__setattr__(self, "H", _symmetric(H, "H"))

    def __call__(self, d: Any) -> Tensor:
        """Predicted change of f: ``(n,)`` -> ``()``, ``(R, n)`` -> ``(R,)``, float64."""
        moves = _tensor(d).to(self.g.device, torch.float64)
        if moves.ndim not in (1, 2) or moves.shape[-1] != self.g.shape[0]:
            n = self.g.shape[0]
            raise ValueError(f"Invalid d: shape {_shape(moves)}; must be ({n},) or (R, {n})")
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
        return Qubo(linear, quadratic, constant)


def _affine_of(encoding: _Encoding, n: int) -> Affine:
    """``encoding.affine(n)``; TypeError for what does not offer one."""
    if not hasattr(encoding, "affine"):
        raise TypeError(f"Invalid encoding: {encoding!r}; must be an Affine or have affine(n) -> Affine")
    return encoding.affine(n)


def _count(offset: Tensor, matrix: Tensor, weights: Any, l0: float) -> tuple[int, Tensor]:
    """Number of nonzero weights with all bits at zero, and what each bit adds to it, ``(m,)``."""
    if weights is None:
        raise ValueError("Invalid weights: None; must be the present values, (n,), as l0 counts nonzero ones")
    w = _floats(weights, "weights").to(offset.device)
    if w.shape != offset.shape:
        raise ValueError(f"Invalid weights: shape {_shape(w)}; must be {_shape(offset)}")
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
