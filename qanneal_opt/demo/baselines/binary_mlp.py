"""Compiled arithmetic of a ReLU network with binary weights: W_l = s_l * sign(V_l), one scale a row.

    A_0 = X,  A_l = relu(A_{l-1} W_l' + b_l),  logits = A_{L-1} W_L' + b_L

Layers are homogeneous tuples of arrays, so that one source serves any depth. All arrays are float32.
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qanneal_opt.demo.baselines.compiled import compiled

Array: TypeAlias = NDArray[np.float32]
Layers: TypeAlias = tuple[Array, ...]


@compiled
def binarize(latents: Layers, weights: Layers) -> None:
    """Write the least-squares binary approximation of each row: mean|v| * sign(v), with sign(0) = 1."""
    for layer in range(len(latents)):
        latent, weight = latents[layer], weights[layer]  # (out, in)
        for row in range(latent.shape[0]):
            total = np.float32(0.0)
            for column in range(latent.shape[1]):
                total += abs(latent[row, column])
            scale = total / np.float32(latent.shape[1])
            for column in range(latent.shape[1]):
                weight[row, column] = scale if latent[row, column] >= 0 else -scale


@compiled
def rescale(codes: Layers, scales: Layers, weights: Layers) -> None:
    """Write s * codes, row by row."""
    for layer in range(len(codes)):
        for row in range(codes[layer].shape[0]):
            for column in range(codes[layer].shape[1]):
                weights[layer][row, column] = scales[layer][row] * codes[layer][row, column]


@compiled
def forward(weights: Layers, biases: Layers, activations: Layers) -> None:
    """Fill `activations[1:]`, each `(batch, out)`, from `activations[0]`; the last holds logits."""
    last = len(weights) - 1
    for layer in range(len(weights)):
        out = activations[layer + 1]
        np.dot(activations[layer], weights[layer].T, out)
        bias = biases[layer]
        for sample in range(out.shape[0]):
            for unit in range(out.shape[1]):
                value = out[sample, unit] + bias[unit]
                out[sample, unit] = value if layer == last or value > 0 else np.float32(0.0)


@compiled
def exponentials(values: Array) -> None:
    """Exp in place for finite values up to 88, contiguous, of any rank; below -87 the result is about 1e-38.

    exp(x) = 2^floor(t) * 2^(t - floor(t)) with t = x / ln 2: a polynomial (interpolated at Chebyshev nodes,
    relative error 1e-7) for the second factor, the exponent bits for the first. The compiler turns this into
    SIMD code, which it cannot do with a call of `expf`: eight times faster.
    """
    flat = values.ravel()
    bits = flat.view(np.int32)
    for k in range(flat.size):
        t = max(flat[k] * np.float32(1.4426950408889634), np.float32(-126.0))
        whole = math.floor(t)
        r = np.float32(t - whole)
        p = np.float32(0.008949590) + r * np.float32(0.0018937541)
        p = np.float32(0.24014182) + r * (np.float32(0.055860337) + r * p)
        flat[k] = np.float32(0.9999999) + r * (np.float32(0.69315449) + r * p)
        bits[k] += np.int32(whole) << np.int32(23)


@compiled
def cross_entropy(logits: Array, targets: Array, deltas: Array) -> float:
    """Mean cross-entropy with target distributions `(batch, classes)`; its gradient goes to `deltas`."""
    count, classes = logits.shape
    total: float = 0.0
    for sample in range(count):
        top = logits[sample, 0]
        for unit in range(1, classes):
            top = max(top, logits[sample, unit])
        for unit in range(classes):
            deltas[sample, unit] = logits[sample, unit] - top
            total -= targets[sample, unit] * deltas[sample, unit]
    exponentials(deltas)
    for sample in range(count):
        mass = np.float32(0.0)
        for unit in range(classes):
            mass += deltas[sample, unit]
        total += math.log(mass)
        share = np.float32(1.0) / (mass * np.float32(count))
        for unit in range(classes):
            deltas[sample, unit] = deltas[sample, unit] * share - targets[sample, unit] / np.float32(count)
    return float(total / count)


@compiled
def backward(
    weights: Layers, activations: Layers, deltas: Layers, weight_gradients: Layers, bias_gradients: Layers
) -> None:
    """Gradients by the discrete weights and the biases, from `deltas[-1]`, the gradient by the logits.

    `deltas[l]` `(batch, out)` belongs to layer l; straight-through hands the weight gradients to the latents
    unchanged.
    """
    for back in range(len(weights)):
        layer = len(weights) - 1 - back
        delta = deltas[layer]
        np.dot(delta.T, activations[layer], weight_gradients[layer])
        bias_gradients[layer][:] = 0
        for sample in range(delta.shape[0]):
            for unit in range(delta.shape[1]):
                bias_gradients[layer][unit] += delta[sample, unit]
        if layer > 0:
            below, active = deltas[layer - 1], activations[layer]
            np.dot(delta, weights[layer], below)
            for sample in range(below.shape[0]):
                for unit in range(below.shape[1]):
                    if active[sample, unit] <= 0:
                        below[sample, unit] = 0


@compiled
def through_scale(weights: Layers, gradients: Layers) -> None:
    """Turn gradients by W = mean|v| * sign(v) into gradients by v, in place (XNOR-Net, section 3.1).

    dJ/dv_i = s * G_i + sign(v_i) * sum_k G_k sign(v_k) / n: the first term passes straight through the sign,
    the second is exact and comes from the scale s.
    """
    for layer in range(len(weights)):
        weight, gradient = weights[layer], gradients[layer]
        for row in range(weight.shape[0]):
            scale = abs(weight[row, 0])
            slope = np.float32(0.0)
            for column in range(weight.shape[1]):
                slope += gradient[row, column] if weight[row, column] >= 0 else -gradient[row, column]
            slope /= np.float32(weight.shape[1])
            for column in range(weight.shape[1]):
                through = slope if weight[row, column] >= 0 else -slope
                gradient[row, column] = scale * gradient[row, column] + through


@compiled
def adam(
    value: Array,
    gradient: Array,
    first: Array,
    second: Array,
    step: int,
    lr: float,
    beta2: float,
    decay: float,
) -> None:
    """One AdamW step in place (Loshchilov and Hutter 2019; beta1 = .9, eps = 1e-8); contiguous, any rank."""
    rate = np.float32(lr / (1.0 - 0.9**step))
    keep = np.float32(1.0 - lr * decay)
    correction = np.float32(1.0 / (1.0 - beta2**step))
    flat, slope, mean, square = value.ravel(), gradient.ravel(), first.ravel(), second.ravel()
    for k in range(flat.size):
        mean[k] = np.float32(0.9) * mean[k] + np.float32(0.1) * slope[k]
        square[k] = np.float32(beta2) * square[k] + np.float32(1.0 - beta2) * slope[k] * slope[k]
        flat[k] = keep * flat[k] - rate * mean[k] / (math.sqrt(square[k] * correction) + np.float32(1e-8))
