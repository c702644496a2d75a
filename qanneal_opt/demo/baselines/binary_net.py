"""A trained network with binary weights, and the refit of what is continuous in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qanneal_opt.demo.baselines.binary_mlp import (
    Array,
    Layers,
    adam,
    backward,
    cross_entropy,
    forward,
    rescale,
)
from qanneal_opt.demo.baselines.compiled import compiled

REFIT_STEPS = 150


@dataclass(frozen=True, eq=False)
class BinaryNet:
    """A trained network: `codes` (+-1) `(out, in)`, `scales` `(out,)`, `biases` `(out,)` for each layer."""

    codes: Layers
    scales: Layers
    biases: Layers
    loss: float
    steps: int

    def logits(self, inputs: Array) -> Array:
        """`(n, in)` to `(n, classes)`."""
        hidden = inputs
        for layer, (codes, scale, bias) in enumerate(zip(self.codes, self.scales, self.biases, strict=True)):
            hidden = hidden @ (codes * scale[:, None]).T + bias
            if layer < len(self.codes) - 1:
                hidden = np.maximum(hidden, 0)
        return hidden


def zeros(like: Layers) -> Layers:
    """Zeros in the shapes of `like`."""
    return tuple(np.zeros_like(array) for array in like)


def buffers(batch: int, sizes: Sequence[int]) -> Layers:
    """Zeros `(batch, size)` for each size."""
    return tuple(np.zeros((batch, size), np.float32) for size in sizes)


@compiled
def _refit(
    codes: Layers,
    scales: Layers,
    biases: Layers,
    targets: Array,
    steps: int,
    weights: Layers,
    activations: Layers,
    deltas: Layers,
    slots: Sequence[Layers],
    slopes: Layers,
    best_scales: Layers,
    best_biases: Layers,
) -> float:
    """Full-batch Adam on scales and biases, lr from 5e-3 along a cosine; the best point goes to `best_*`."""
    best = np.inf
    for step in range(1, steps + 2):
        rescale(codes, scales, weights)
        forward(weights, biases, activations)
        loss = cross_entropy(activations[-1], targets, deltas[-1])
        if loss < best:
            best = loss
            for layer in range(len(codes)):
                best_scales[layer][:] = scales[layer]
                best_biases[layer][:] = biases[layer]
        if step > steps:
            break
        backward(weights, activations, deltas, slopes, slots[3])
        rate = 0.5 * 5e-3 * (1.0 + np.cos(np.pi * (step - 1) / steps))
        for layer in range(len(codes)):
            for row in range(codes[layer].shape[0]):
                slots[0][layer][row] = np.dot(slopes[layer][row], codes[layer][row])
            adam(scales[layer], slots[0][layer], slots[1][layer], slots[2][layer], step, rate, 0.99, 0.0)
            adam(biases[layer], slots[3][layer], slots[4][layer], slots[5][layer], step, rate, 0.99, 0.0)
    return best


def refit(latents: Layers, biases: Layers, inputs: Array, targets: Array) -> BinaryNet:
    """Freeze the signs of the latents and refit scales and biases on all the data.

    The product of the inputs with the first layer's codes is taken once: that layer then acts as a diagonal.
    """
    codes = tuple(np.where(latent >= 0, np.float32(1), np.float32(-1)) for latent in latents)
    scales: Layers = tuple(np.abs(latent).mean(1) for latent in latents)
    biases = tuple(bias.copy() for bias in biases)
    reduced = (np.eye(len(codes[0]), dtype=np.float32), *codes[1:])
    sizes = [len(code) for code in codes]
    best_scales, best_biases = zeros(scales), zeros(biases)
    slots = (*(zeros(scales) for _ in range(3)), *(zeros(biases) for _ in range(3)))
    loss = _refit(
        reduced,
        scales,
        biases,
        targets,
        REFIT_STEPS,
        zeros(reduced),
        (inputs @ codes[0].T, *buffers(len(inputs), sizes)),
        buffers(len(inputs), sizes),
        slots,
        zeros(reduced),
        best_scales,
        best_biases,
    )
    return BinaryNet(codes, best_scales, best_biases, loss, 0)
