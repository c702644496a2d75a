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

from qanneal_opt.demo.baselines.binary_mlp import (
    Array,
    Layers,
    adam,
    backward,
    binarize,
    cross_entropy,
    forward,
    through_scale,
)
from qanneal_opt.demo.baselines.binary_net import REFIT_STEPS, BinaryNet, buffers, refit, zeros
from qanneal_opt.demo.baselines.compiled import compiled
from qanneal_opt.demo.data import Split, permutations

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


@compiled
def _train(
    latents: Layers,
    biases: Layers,
    inputs: Array,
    targets: Array,
    orders: NDArray[np.int32],
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
    """`steps` mini-batch steps in place, in the `orders` `(passes, n)` of the samples.

    `slots`: gradients and two moments of latents, then of biases.
    """
    turn, position = 0, 0
    picked = np.empty((batch, targets.shape[1]), np.float32)
    for step in range(1, steps + 1):
        if position + batch > len(inputs):
            turn, position = turn + 1, 0
        for k in range(batch):
            sample = orders[turn, position + k]
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
        slots = (*(zeros(latents) for _ in range(3)), *(zeros(biases) for _ in range(3)))
        _train(
            latents,
            biases,
            inputs,
            targets,
            permutations(rng, -(-steps // (len(inputs) // setting.batch)), len(inputs)),
            steps,
            setting.batch,
            setting.lr,
            setting.clip,
            setting.chain,
            setting.decay,
            zeros(latents),
            buffers(setting.batch, sizes),
            buffers(setting.batch, sizes[1:]),
            slots,
        )
        nets.append(refit(latents, biases, inputs, targets))
    best = min(nets, key=lambda net: net.loss)
    return BinaryNet(best.codes, best.scales, best.biases, best.loss, steps * setting.restarts)
