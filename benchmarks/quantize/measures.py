"""How far a rounded network is from the one it was made of, on data that neither rounding nor tuning saw."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class Distance:
    """Of embeddings of length 1, text by text: squared distance `(N,)`, and the share of neighbours kept `(N,)`."""

    squared: Tensor
    overlap: Tensor

    @classmethod
    def of(cls, rounded: Tensor, original: Tensor) -> "Distance":
        """Compare embeddings `(N, d)`; a text's neighbours are the ten others whose embeddings are nearest."""
        mine, theirs = (_neighbours(embedded) for embedded in (rounded, original))
        shared = (mine[:, :, None] == theirs[:, None, :]).any(2).double().mean(1)
        return cls((rounded - original).double().square().sum(1), shared)

    def record(self) -> dict[str, float]:
        """Means. The cosine is 1 - squared / 2, as vectors have length 1."""
        squared = float(self.squared.mean())
        return {"mse": squared, "cosine": 1 - squared / 2, "overlap": float(self.overlap.mean())}


def _neighbours(embedded: Tensor) -> Tensor:
    similar = embedded @ embedded.T
    similar.fill_diagonal_(-torch.inf)
    return similar.topk(NEIGHBOURS).indices  # (N, 10)


def ratio(ours: Tensor, theirs: Tensor, samples: int = 10_000) -> tuple[float, float, float]:
    """Ratio of the means of two positive measures of the same texts `(N,)`, and its 95% bootstrap interval.

    >>> ratio(torch.full((9,), 1.0), torch.full((9,), 2.0))
    (0.5, 0.5, 0.5)
    """
    pairs = torch.stack([ours, theirs], 1).double().numpy()  # (N, 2)
    weights = np.random.default_rng(0).multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), samples)
    sums = weights @ pairs  # (samples, 2)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], (0.025, 0.975))
    return float(pairs[:, 0].sum() / pairs[:, 1].sum()), float(low), float(high)
