"""Straight-through training of binary networks, compiled: the baseline that the alternation has to beat.

AdamW moves latents V; the forward pass uses W = mean|v| * sign(v) row by row. The gradient by W goes to V
unchanged (Bengio et al., arXiv 1308.3432), or through the scale as well (XNOR-Net, arXiv 1603.05279): tuning
chooses. The learning rate falls along a cosine. Every restart ends with the same refit of scales and biases
as the alternation, and the restart with the lowest training loss is the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.baselines.binary_mlp import (
    Array,
    Layers,
    adam,
    backward,
    binarize,
    cross_entropy,
    forward,
    rescale,
    through_scale,
)
from benchmarks.baselines.compiled import compiled
from benchmarks.data import Split

REFIT_STEPS = 150

# Seconds of one core, fitted to measured runs within 10%: a step costs
# STEP + batch * (SAMPLE + PRODUCT * weights), a refit step REFIT for each sample of the training set.
STEP = 1.8e-6
SAMPLE = 1.25e-7
PRODUCT = 4.0e-11
REFIT = 6.0e-8


@dataclass(frozen=True)
class Setting:
    """What tuning chooses.

    `clip`: latents stay within +-clip (0: no bound); `chain`: the gradient passes through the scale as well.
    """

    lr: float
    batch: int
    restarts: int
    clip: float = 0.0
    chain: bool = False
    decay: float = 0.0


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


@compiled
def _train(
    latents: Layers,
    biases: Layers,
    inputs: Array,
    targets: Array,
    rng: Generator,
    steps: int,
    batch: int,
    lr: float,
    clip: float,
    chain: bool,
    decay: float,
    weights: Layers,
    activations: Layers,
    deltas: Layers,
    slots: Sequence[Layers],
) -> None:
    """`steps` mini-batch steps in place; `slots`: gradients and two moments of latents, then of biases."""
    order = rng.permutation(len(inputs))
    position = 0
    picked = np.empty((batch, targets.shape[1]), np.float32)
    for step in range(1, steps + 1):
        if position + batch > len(order):
            order = rng.permutation(len(inputs))
            position = 0
        for k in range(batch):
            sample = order[position + k]
            for column in range(inputs.shape[1]):
                activations[0][k, column] = inputs[sample, column]
            for column in range(targets.shape[1]):
                picked[k, column] = targets[sample, column]
        position += batch
        binarize(latents, weights)
        forward(weights, biases, activations)
        cross_entropy(activations[-1], picked, deltas[-1])
        backward(weights, activations, deltas, slots[0], slots[3])
        if chain:
            through_scale(weights, slots[0])
        rate = 0.5 * lr * (1.0 + np.cos(np.pi * (step - 1) / steps))
        for layer in range(len(latents)):
            adam(latents[layer], slots[0][layer], slots[1][layer], slots[2][layer], step, rate, 0.999, decay)
            adam(biases[layer], slots[3][layer], slots[4][layer], slots[5][layer], step, rate, 0.999, 0.0)
            if clip > 0:
                flat = latents[layer].ravel()
                for k in range(flat.size):
                    flat[k] = min(max(flat[k], -clip), clip)


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


def _zeros(like: Layers) -> Layers:
    return tuple(np.zeros_like(array) for array in like)


def _buffers(batch: int, sizes: Sequence[int]) -> Layers:
    return tuple(np.zeros((batch, size), np.float32) for size in sizes)


def smoothed(targets: NDArray[np.int64], classes: int, smoothing: float) -> Array:
    """Target distributions (1 - eps) onehot + eps / classes, `(n, classes)` float32.

    >>> smoothed(np.array([1]), 2, 0.5)
    array([[0.25, 0.75]], dtype=float32)
    """
    onehot = np.eye(classes, dtype=np.float32)[targets]
    return np.float32(1 - smoothing) * onehot + np.float32(smoothing / classes)


def initial(sizes: Sequence[int], rng: Generator) -> tuple[Layers, Layers]:
    """Latents and biases drawn as `torch.nn.Linear` draws them: uniform within +-1/sqrt(in)."""
    pairs = list(pairwise(sizes))
    latents = tuple(rng.uniform(-1, 1, (o, i)).astype(np.float32) / np.float32(np.sqrt(i)) for i, o in pairs)
    biases = tuple(rng.uniform(-1, 1, o).astype(np.float32) / np.float32(np.sqrt(i)) for i, o in pairs)
    return latents, biases


def refit(latents: Layers, biases: Layers, inputs: Array, targets: Array) -> BinaryNet:
    """Freeze the signs of the latents and refit scales and biases on all the data.

    The product of the inputs with the first layer's codes is taken once: that layer then acts as a diagonal.
    """
    codes = tuple(np.where(latent >= 0, np.float32(1), np.float32(-1)) for latent in latents)
    scales: Layers = tuple(np.abs(latent).mean(1) for latent in latents)
    biases = tuple(bias.copy() for bias in biases)
    reduced = (np.eye(len(codes[0]), dtype=np.float32), *codes[1:])
    sizes = [len(code) for code in codes]
    best_scales, best_biases = _zeros(scales), _zeros(biases)
    slots = (*(_zeros(scales) for _ in range(3)), *(_zeros(biases) for _ in range(3)))
    loss = _refit(
        reduced,
        scales,
        biases,
        targets,
        REFIT_STEPS,
        _zeros(reduced),
        (inputs @ codes[0].T, *_buffers(len(inputs), sizes)),
        _buffers(len(inputs), sizes),
        slots,
        _zeros(reduced),
        best_scales,
        best_biases,
    )
    return BinaryNet(codes, best_scales, best_biases, loss, 0)


def steps_within(budget: float, sizes: Sequence[int], count: int, setting: Setting) -> int:
    """Steps of each restart: all restarts with their refits take about `budget` CPU seconds."""
    weights = sum(i * o for i, o in pairwise(sizes))
    step = STEP + setting.batch * (SAMPLE + PRODUCT * weights)
    refits = REFIT_STEPS * REFIT * count
    return max(1, int((budget / setting.restarts - refits) / step))


def train(
    split: Split, hidden: Sequence[int], setting: Setting, *, budget: float, seed: int, smoothing: float = 0.0
) -> BinaryNet:
    """Train a network of `hidden` units for `budget` CPU seconds (a fixed number of steps: reproducible)."""
    inputs = split.train_inputs
    targets = smoothed(split.train_targets, split.classes, smoothing)
    sizes = [inputs.shape[1], *hidden, split.classes]
    steps = steps_within(budget, sizes, len(inputs), setting)
    nets = []
    for restart in range(setting.restarts):
        rng = np.random.default_rng((seed, restart))
        latents, biases = initial(sizes, rng)
        slots = (*(_zeros(latents) for _ in range(3)), *(_zeros(biases) for _ in range(3)))
        _train(
            latents,
            biases,
            inputs,
            targets,
            rng,
            steps,
            setting.batch,
            setting.lr,
            setting.clip,
            setting.chain,
            setting.decay,
            _zeros(latents),
            _buffers(setting.batch, sizes),
            _buffers(setting.batch, sizes[1:]),
            slots,
        )
        nets.append(refit(latents, biases, inputs, targets))
    best = min(nets, key=lambda net: net.loss)
    return BinaryNet(best.codes, best.scales, best.biases, best.loss, steps * setting.restarts)
