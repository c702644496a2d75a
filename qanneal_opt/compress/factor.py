"""The triangular factor of a layer's H that GPTQ and the beam round along."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qanneal_opt.floats import all_finite

_SMALL = 96  # a triangular matrix inverted at once


@dataclass(frozen=True, eq=False)
class Factor:
    r"""The damped H, factored in the order in which columns are rounded.

    With :math:`U'U = (H + \lambda)^{-1}`, U upper triangular: the error e of column i moves the weights still to be
    rounded by :math:`-e\,U_{ij} / U_{ii}`, and costs :math:`e^2 / U_{ii}^2` when these are free.

    Args:
        order: ``(C,)``: the columns, first to last.
        spread: ``(C, C)`` float64: row i holds :math:`U_{ij} / U_{ii}`; contiguous.
        price: ``(C,)`` float64: :math:`1 / U_{ii}^2`.
        damping: :math:`\lambda`.
    """

    order: Tensor
    spread: Tensor
    price: Tensor
    damping: float

    @classmethod
    def of(cls, moment: Tensor, *, damping: float = 0.01, activation_order: bool = True) -> Factor:
        """Factor H.

        Args:
            moment: ``(C, C)``: H, positive semidefinite.
            damping: of the mean of H's diagonal, added to it.
            activation_order: columns with the largest diagonal of H first; otherwise as they stand.

        Raises:
            ValueError: H is not finite.
        """
        H = moment.double()
        if not all_finite(H):
            raise ValueError("Invalid moment: NaN or infinity among its entries; must be finite")
        diagonal = H.diagonal()
        order = torch.argsort(diagonal, descending=True, stable=True) if activation_order else torch.arange(len(H))
        damp = damping * float(diagonal.mean())
        back = order.flip(0)
        H = H[back[:, None], back]
        # Rounding leaves H a little indefinite where samples are few: more damping until the factor exists.
        damp, added = max(damp, 1e-12 * float(diagonal.max()), 1e-30), 0.0
        while True:
            H.diagonal().add_(damp - added)
            lower, failed = torch.linalg.cholesky_ex(H)
            if not int(failed):
                break
            damp, added = 10 * damp, damp
        # From the last column to the first, H + lambda = L L': U is L's inverse, turned round again.
        inverse, own = _inverse(lower), lower.diagonal()
        return cls(order, (inverse * own[:, None]).flip(0, 1).contiguous(), own.flip(0) ** 2, damp)


def _inverse(lower: Tensor) -> Tensor:
    """The inverse of a lower triangular matrix, by halves: products are faster than substitution."""
    n, half = len(lower), len(lower) // 2
    if n <= _SMALL:
        small: Tensor = torch.linalg.solve_triangular(lower, torch.eye(n).to(lower), upper=False)
        return small
    result = lower.new_zeros(n, n)
    first, last = result[:half, :half], result[half:, half:]
    first[:], last[:] = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    torch.mm(last, lower[half:, :half] @ first, out=result[half:, :half]).neg_()
    return result
