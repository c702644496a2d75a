"""Real data, split and standardised by a seed."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test rows of one data set; inputs float32 `(n, features)`, targets int64 `(n,)`."""

    train_inputs: NDArray[np.float32]
    train_targets: NDArray[np.int64]
    test_inputs: NDArray[np.float32]
    test_targets: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.train_targets.max()) + 1


def digits(seed: int, test_share: float = 0.2) -> Split:
    """scikit-learn's 1797 handwritten digits: a stratified split, standardised by the training rows.

    A pixel that is constant over the training rows carries nothing and becomes 0 everywhere.

    >>> split = digits(0)
    >>> split.train_inputs.shape, split.test_inputs.shape, split.classes
    ((1437, 64), (360, 64), 10)
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    inputs, targets = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(len(targets)), test_size=test_share, stratify=targets, random_state=seed)
    mean, deviation = inputs[train].mean(0), inputs[train].std(0)
    alive = deviation > 0
    scaled = np.where(alive, (inputs - mean) / np.where(alive, deviation, 1.0), 0.0).astype(np.float32)
    labels = targets.astype(np.int64)
    return Split(scaled[train], labels[train], scaled[test], labels[test])


def random_patterns(seed: int, size: int, load: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random patterns +-1 `(round(load * size), size)` with random labels +-1, both float32.

    >>> patterns, labels = random_patterns(0, 501, 0.6)
    >>> patterns.shape, labels.shape
    ((301, 501), (301,))
    """
    count = round(load * size)
    rng = np.random.default_rng((seed, size, count))
    signs = 2.0 * rng.integers(0, 2, (count, size + 1)) - 1.0
    return signs[:, :-1].astype(np.float32), signs[:, -1].astype(np.float32)


def permutations(rng: Generator, passes: int, count: int) -> NDArray[np.int32]:
    """Orders of `count` samples for so many passes, `(passes, count)`.

    They are drawn outside the kernels, where numba would need eight seconds to compile the same.
    """
    return np.array([rng.permutation(count) for _ in range(passes)], np.int32).reshape(passes, count)
