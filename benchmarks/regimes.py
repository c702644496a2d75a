"""Problems of rules over measurements: three comparisons with thresholds say which other measurement counts."""

import numpy as np
import torch

from benchmarks import rules
from benchmarks.rules import TESTS, Problem


def address(bits: np.ndarray, wires: int) -> np.ndarray:
    """The multiplexer: `wires` bits choose one of 2^wires others."""
    chosen = bits[:, :wires] @ (1 << np.arange(wires))[::-1]
    return np.take_along_axis(bits[:, wires:], chosen[:, None], 1)[:, 0]


def measurements(rng: np.random.Generator, uniform: np.ndarray) -> np.ndarray:
    """Columns of all sorts of distributions, scales and zeros from uniform ones; the order of samples is kept."""
    normal = torch.special.ndtri(torch.from_numpy(uniform)).numpy()
    shapes = np.stack([normal, np.exp(0.7 * normal), -np.log1p(-uniform), 3 * uniform])
    columns = np.take_along_axis(shapes, rng.integers(0, len(shapes), uniform.shape[1])[None, None], 0)[0]
    scale = 10 ** rng.uniform(-1, 2, uniform.shape[1])
    return scale * (columns + rng.uniform(-2, 2, uniform.shape[1]))


def regimes(seed: int, n: int, samples: int, wires: int, linear: int = 0, weight: float = 1.0) -> Problem:
    """A multiplexer of comparisons with thresholds at quantiles 0.3 to 0.7, alone or added to a linear score."""
    rng = np.random.default_rng(seed)
    uniform = rng.random((samples + TESTS, n)).clip(1e-6, 1 - 1e-6)
    bits = (uniform > rng.uniform(0.3, 0.7, n)).astype(np.int64)
    held = address(bits[:, rng.permutation(n)[: wires + 2**wires]], wires)
    inputs = measurements(rng, uniform)
    if linear:
        z, beta = rng.normal(size=(len(inputs), linear)), rng.normal(size=linear)
        held = z @ beta / np.linalg.norm(beta) + weight * (2 * held - 1) > 0
        inputs = np.concatenate([z, inputs], 1)
    return rules.problem(inputs, held, samples, 2**wires + 4)
