"""The triangular factor of a layer's H that GPTQ and the beam round along."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Factor:
    r"""The damped H, factored in the order in which columns are rounded.

    With :math:`U'U = (H + \lambda)^{-1}`, U upper triangular: the error e of column i moves the weights still to be
    rounded by :math:`-e\,U_{ij} / U_{ii}`, and costs :math:`e^2 / U_{ii}^2` when these are free.

    Args:
        order: ``(C,)``: the columns, first to last.
        spread: ``(C, C)`` float64: row i holds :math:`U_{ij} / U_{ii}`.
        price: ``(C,)`` float64: :math:`1 / U_{ii}^2`.
    """

    order: Tensor
    spread: Tensor
    price: Tensor

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
        if not bool(H.isfinite().all()):
            raise ValueError("Invalid moment: NaN or infinity among its entries; must be finite")
        diagonal = H.diagonal()
        order = torch.argsort(diagonal, descending=True, stable=True) if activation_order else torch.arange(len(H))
        damp = damping * float(diagonal.mean())
        H = H[order][:, order]
        # Rounding leaves H a little indefinite where samples are few: more damping until the factor exists.
        damp = max(damp, 1e-12 * float(diagonal.max()), 1e-30)
        while True:
            damped = H + damp * torch.eye(len(H), dtype=H.dtype, device=H.device)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not int(failed):
                break
            damp *= 10
        U = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
        own = U.diagonal()
        return cls(order, U / own[:, None], own**-2)
