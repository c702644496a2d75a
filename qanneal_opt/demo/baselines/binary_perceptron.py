"""Straight-through training of a binary perceptron, compiled: w = sign(v), hinge loss of y x.w / sqrt(N).

The gradient by w goes to the latents v unchanged. With plain gradient steps, batch 1 and no margin this is
the clipped perceptron rule of the literature (Rosenblatt's rule on hidden weights): tuning covers it as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.demo.baselines.binary_mlp import Array, adam
from qanneal_opt.demo.baselines.compiled import compiled
from qanneal_opt.demo.baselines.signs import judge
from qanneal_opt.demo.data import permutations

# Seconds of one core, fitted to measured runs: an epoch of P patterns of N weights in steps of `batch`.
PRODUCT = 1.0e-10  # one multiplication by a pattern
ADAM = 6.5e-10  # an AdamW update of one latent
PLAIN = 8.0e-11  # a plain update of one latent


@dataclass(frozen=True)
class Setting:
    """What tuning chooses: AdamW or plain steps, squared or plain hinge, its margin, epochs of a restart."""

    lr: float
    batch: int
    margin: float
    squared: bool
    adaptive: bool
    epochs: int
    clip: float = 0.0


@compiled
def _restart(
    signed: Array,
    latent: Array,
    orders: NDArray[np.int32],
    batch: int,
    lr: float,
    margin: float,
    squared: bool,
    adaptive: bool,
    clip: float,
    best: Array,
) -> tuple[int, int]:
    """Train `latent` in place, in `orders` `(epochs, count)`; the weights with fewest errors go to `best`.

    Returns (errors, epochs used).
    """
    count, size = signed.shape
    epochs = len(orders)
    gain = np.float32(1.0 / np.sqrt(size))
    weights, gradient = np.empty(size, np.float32), np.empty(size, np.float32)
    first, second = np.zeros(size, np.float32), np.zeros(size, np.float32)
    fewest = count + 1
    steps_an_epoch = (count + batch - 1) // batch
    total, step = epochs * steps_an_epoch, 0
    for epoch in range(epochs + 1):
        fields, errors, fewest = judge(signed, latent, weights, best, fewest)
        if errors == 0 or epoch == epochs:
            return fewest, epoch
        order = orders[epoch]
        for start in range(0, count, batch):
            stop = min(start + batch, count)
            step += 1
            gradient[:] = 0
            wrong = False
            for place in range(start, stop):
                row = signed[order[place]]
                field = fields[order[place]] if batch >= count else np.dot(row, weights)
                gap = np.float32(margin) - field * gain
                if gap > 0:
                    wrong = True
                    slope = gain * (np.float32(2.0) * gap if squared else np.float32(1.0)) / np.float32(stop - start)
                    for k in range(size):
                        gradient[k] -= slope * row[k]
            rate = 0.5 * lr * (1.0 + np.cos(np.pi * (step - 1) / total))
            if adaptive:
                adam(latent, gradient, first, second, step, rate, 0.999, 0.0)
            elif wrong:
                for k in range(size):
                    latent[k] -= np.float32(rate) * gradient[k]
            if adaptive or wrong:
                for k in range(size):
                    if clip > 0:
                        latent[k] = min(max(latent[k], -np.float32(clip)), np.float32(clip))
                    weights[k] = np.float32(1.0) if latent[k] >= 0 else np.float32(-1.0)
    return fewest, epochs


def epochs_within(budget: float, count: int, size: int, setting: Setting) -> int:
    """Epochs of all restarts together that take `budget` CPU seconds."""
    update = ADAM if setting.adaptive else PLAIN
    steps = -(-count // setting.batch)
    products = 2 if setting.batch >= count else 3
    return max(1, int(budget / (products * PRODUCT * count * size + update * steps * size)))


def train(patterns: Array, labels: Array, setting: Setting, *, budget: float, seed: int) -> tuple[Array, int, int]:
    """Restart until solved or until `budget` CPU seconds are used (a fixed number of epochs: reproducible).

    Returns weights +-1 `(N,)`, their training errors, and the epochs used.
    """
    signed = np.ascontiguousarray(patterns * labels[:, None])
    left = epochs_within(budget, len(signed), signed.shape[1], setting)
    begun, restart, fewest = left, 0, len(signed) + 1
    best = np.ones(signed.shape[1], np.float32)
    while left > 0 and fewest > 0:
        rng = np.random.default_rng((seed, restart))
        latent = rng.uniform(-1, 1, signed.shape[1]).astype(np.float32) / np.float32(np.sqrt(signed.shape[1]))
        found: NDArray[np.float32] = np.empty_like(best)
        errors, used = _restart(
            signed,
            latent,
            permutations(rng, min(left, setting.epochs), len(signed)),
            setting.batch,
            setting.lr,
            setting.margin,
            setting.squared,
            setting.adaptive,
            setting.clip,
            found,
        )
        left, restart = left - max(used, 1), restart + 1
        if errors < fewest:
            fewest, best = errors, found
    return best, fewest, begun - left
