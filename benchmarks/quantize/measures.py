"""How far a rounded network is from the one it was made of, on data that neither rounding nor tuning saw."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
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


@cache
def _resampled(count: int, samples: int = 4000) -> NDArray[np.int64]:
    """How often each of `count` texts is drawn in bootstrap samples, `(samples, count)`."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), samples)


def ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float, float]:
    """Ratio of the means of two positive measures of the same texts `(N,)`, and its 95% bootstrap interval.

    >>> ratio(np.full(9, 1.0), np.full(9, 2.0))
    (0.5, 0.5, 0.5)
    """
    weights = _resampled(len(ours))
    low, high = np.quantile((weights @ ours) / (weights @ theirs), (0.025, 0.975))
    return float(ours.sum() / theirs.sum()), float(low), float(high)
