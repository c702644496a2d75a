"""QUBOs: energies of bits, dense tensors in float64, one problem or a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qanneal_opt.floats import as_floats, as_tensor, shape_of, symmetrised

if TYPE_CHECKING:
    import dimod

MAX_WORD = 8
"""Bits of a weight: a sampler may look at all their 2^8 values."""


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
        word: so many bits in a row, 1 to 8, make up one weight. It changes no energy; a sampler may use it to
            move them together.

    Raises:
        ValueError: a shape that does not fit, an entry that is not finite, asymmetry, a nonzero diagonal, a word
            that does not divide n.
        TypeError: what cannot be read as real numbers.

    >>> qubo = Qubo([-1.0, -1.0, 2.0], [[0, 3, 0], [3, 0, 0], [0, 0, 0]], offset=0.5)
    >>> qubo.energies([[0, 0, 0], [1, 0, 0], [1, 1, 1]]).tolist()
    [0.5, -0.5, 3.5]
    """

    linear: Tensor
    quadratic: Tensor
    offset: float | Tensor = 0.0
    word: int = 1

    def __post_init__(self) -> None:
        linear = as_floats(self.linear, "linear")
        if linear.ndim not in (1, 2):
            raise ValueError(f"Invalid linear: shape {shape_of(linear)}; must be (n,) or, for a batch, (B, n)")
        n = linear.shape[-1]
        quadratic = as_floats(self.quadratic, "quadratic")
        if n == 0 and quadratic.shape == (0,):  # how [] reads
            quadratic = quadratic.reshape(0, 0)
        allowed = [(n, n)] if linear.ndim == 1 else [(n, n), (linear.shape[0], n, n)]
        if tuple(quadratic.shape) not in allowed:
            valid = " or ".join(map(str, allowed))
            given = f"shape {shape_of(quadratic)} with linear of shape {shape_of(linear)}"
            raise ValueError(f"Invalid quadratic: {given}; must be {valid}")
        if quadratic.device != linear.device:
            raise ValueError(f"Invalid quadratic: on {quadratic.device}; must be on {linear.device}, as linear")
        quadratic = symmetrised(quadratic, "quadratic")
        diagonal = quadratic.diagonal(dim1=-2, dim2=-1)
        if bool(diagonal.any()):
            largest = float(diagonal.abs().max())
            raise ValueError(
                f"Invalid quadratic: {largest:g} on its diagonal; must be zero there, as b^2 = b is linear "
                "(Qubo.from_matrix takes a matrix with a diagonal)"
            )
        offset = as_floats(self.offset, "offset")
        if offset.ndim and (linear.ndim == 1 or offset.shape != linear.shape[:1]):
            valid = "a number" if linear.ndim == 1 else f"a number or of shape {shape_of(linear[:, 0])}"
            raise ValueError(f"Invalid offset: shape {shape_of(offset)}; must be {valid}")
        if (
            isinstance(self.word, bool)
            or not isinstance(self.word, int)
            or not 1 <= self.word <= MAX_WORD
            or n % self.word
        ):
            raise ValueError(f"Invalid word: {self.word}; must be an int from 1 to {MAX_WORD} that divides n, {n}")
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
        object.__setattr__(part, "word", self.word)
        return part

    def energies(self, bits: Any) -> Tensor:
        """``offset + linear.b + b' quadratic b / 2``, float64.

        Args:
            bits: zeros and ones of any dtype: ``(n,)`` -> ``()``, ``(R, n)`` -> ``(R,)``; for a batch
                ``(B, R, n)`` -> ``(B, R)``.

        Raises:
            ValueError: another shape, or an entry other than 0 and 1.
        """
        b = as_tensor(bits).to(self.linear.device)
        n, batch = self.n, self.batch
        if batch is None and (b.ndim not in (1, 2) or b.shape[-1] != n):
            raise ValueError(f"Invalid bits: shape {shape_of(b)}; must be ({n},) or (R, {n})")
        if batch is not None and (b.ndim != 3 or b.shape[0] != batch or b.shape[2] != n):
            raise ValueError(f"Invalid bits: shape {shape_of(b)}; must be ({batch}, R, {n})")
        b = b.to(torch.float64)
        if bool((b * (b - 1)).any()):
            raise ValueError("Invalid bits: entries other than 0 and 1")
        linear, offset = self.linear, self.offset
        if batch is not None:
            linear = linear[:, None]  # (B, 1, n)
            offset = offset[:, None] if isinstance(offset, Tensor) else offset
        fields = b @ self.quadratic  # as b; b_j times the sum of its couplings counts each pair twice
        energies: Tensor = offset + (torch.add(linear, fields, alpha=0.5) * b).sum(-1)
        return energies

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
        matrix = as_floats(Q, "Q")
        if matrix.shape == (0,):
            matrix = matrix.reshape(0, 0)
        if matrix.ndim not in (2, 3) or matrix.shape[-1] != matrix.shape[-2]:
            raise ValueError(f"Invalid Q: shape {shape_of(matrix)}; must be (n, n) or (B, n, n)")
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)  # (n,) or (B, n)
        return cls(diagonal.clone(), matrix + matrix.mT - 2 * torch.diag_embed(diagonal))
