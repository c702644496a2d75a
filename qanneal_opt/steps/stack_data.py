"""Lays out a stack and its data as the kernels read them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanneal_opt.losses import LossSpec
from qanneal_opt.steps import net
from qanneal_opt.steps.stack_layout import Parsed, Unsupported

LANES = 32  # row lengths are multiples of it, so that SIMD loops have no rest
LONGEST = 640  # samples a block: a row has at most 2.5 kB, and the rows of a move stay in the nearest cache


def numbers(tensor: Tensor) -> NDArray[Any]:
    """Give a tensor's values on the CPU, sharing memory where they are there already."""
    return np.asarray(tensor.detach().cpu().contiguous().numpy())


def zeros(*shape: int) -> NDArray[np.float32]:
    """Float32 zeros from torch's allocator, which aligns them to cache lines."""
    return np.asarray(torch.zeros(*shape).numpy())


def sample_inputs(parsed: Parsed, inputs: Any) -> Tensor:
    """Run the prefix; (N, features) float32 on the CPU."""
    if not isinstance(inputs, Tensor):
        raise Unsupported(f"Invalid inputs: {type(inputs).__name__}; one tensor is needed")
    with torch.no_grad():
        x = inputs.detach().clone() if parsed.prefix else inputs.detach()  # an activation may work in place
        for module in parsed.prefix:
            x = module(x)
    features = parsed.parts[0].linear.in_features
    if x.ndim != 2 or x.shape[1] != features or not len(x) or x.dtype != torch.float32:
        shape = tuple(x.shape)
        raise Unsupported(f"Invalid inputs: {shape} {x.dtype}; float32 of shape (N, {features}) is needed")
    return x.cpu()


def sample_targets(spec: LossSpec, targets: Any, count: int, parsed: Parsed) -> Tensor:
    """Targets as numbers by output, (N, C) float64: probabilities (smoothed), values, or labels -1 and 1."""
    classes = parsed.parts[-1].linear.out_features
    if not isinstance(targets, Tensor):
        raise Unsupported(f"Invalid targets: {type(targets).__name__}; one tensor is needed")
    y, shape = targets.detach().cpu(), tuple(targets.shape)
    if spec.kind == "cross_entropy":
        if parsed.flat:
            raise Unsupported("Invalid model: cross-entropy needs outputs (N, C), these are flattened")
        if not y.is_floating_point():
            if shape != (count,) or not bool(((y >= 0) & (y < classes)).all()):
                raise Unsupported(f"Invalid targets: {shape}; {count} classes below {classes} are needed")
            y = nn.functional.one_hot(y.long(), classes)
        elif shape != (count, classes) or not bool((y >= 0).all()):
            raise Unsupported(f"Invalid targets: {shape}; probabilities ({count}, {classes}) are needed")
        return y.double() * (1.0 - spec.smoothing) + spec.smoothing / classes
    wanted = (count * classes,) if parsed.flat else (count, classes)
    if shape != wanted and not (spec.kind == "hinge" and y.numel() == count * classes):
        raise Unsupported(f"Invalid targets: {shape}; outputs have shape {wanted}")
    y = y.reshape(count, classes).double()
    if spec.kind == "hinge" and not bool((y.abs() == 1.0).all()):
        raise Unsupported("Invalid targets: the hinge needs labels -1 and 1")
    return y


def sample_weights(weights: Tensor | None, count: int) -> Tensor:
    """Weights of a mean, (N,) float64."""
    if weights is None:
        return torch.full((count,), 1.0 / count, dtype=torch.float64)
    if weights.shape != (count,):
        raise Unsupported(f"Invalid weights: {tuple(weights.shape)}; one number a sample is needed")
    w = weights.detach().cpu().double()
    return w / w.sum()


def squares(spec: LossSpec, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor, float]:
    """Write mse or hinge as sum max(r, floor)^2, r = slope * output + target: slope and target (N, C), and floor."""
    root = (w / y.shape[1]).sqrt().unsqueeze(1)  # (N, 1): a mean over elements
    if spec.kind == "mse":
        return root.expand_as(y), -root * y, -math.inf
    return -root * y / spec.scale, (root * spec.margin).expand_as(y), 0.0


def blocks(count: int) -> tuple[int, int]:
    """Number and length of blocks: whole LANES, at most LONGEST samples, with the least padding."""
    least = -(-count // LONGEST)
    candidates = range(least, 2 * least + 8)
    lengths = {number: -(-count // (number * LANES)) * LANES for number in candidates}
    number = min(lengths, key=lambda n: (n * lengths[n], n))
    return number, lengths[number]


class Network:
    """The arrays of a network, and their record for the kernels.

    Attributes:
        data: (blocks, rows, length) float32.
        theta: all parameters, flat float32.
        layers: (L,) of ``net.LAYER``.
        cache: (blocks, rows, length) float32, L h of layers with a scale.
        address: of the record.
    """

    def __init__(
        self,
        data: NDArray[np.float32],
        theta: NDArray[np.float32],
        layers: NDArray[Any],
        cache: NDArray[np.float32],
        **numbers: float,
    ) -> None:
        self.data, self.theta, self.layers, self.cache = data, theta, layers, cache
        blocks, height, length = data.shape
        half = int(max(layers["inputs"].max(), layers["outputs"].max()))
        self._scratch, self._flags = zeros(2 * half + 4, length), np.zeros(2 * half, np.int64)
        self.numbers = numbers
        arrays = {"data": data, "theta": theta, "layers": layers, "cache": cache}
        arrays |= {"scratch": self._scratch, "flags": self._flags}
        sizes = {"blocks": blocks, "height": height, "tall": cache.shape[1], "length": length}
        sizes |= {"depth": len(layers), "half": half}
        self._record = np.zeros(1, net.NET)
        for name, array in arrays.items():
            self._record[name] = array.ctypes.data
        for name, number in (sizes | numbers).items():
            self._record[name] = number
        self.address = self._record.ctypes.data

    def __getstate__(self) -> None:
        raise TypeError("a stack stands at fixed addresses and cannot be copied: build another one")


def build(parsed: Parsed, spec: LossSpec, inputs: Any, targets: Any, weights: Tensor | None) -> Network:
    """Lay out the data of a stack.

    Raises:
        Unsupported: if the data is not what the model and the loss need.
    """
    x = sample_inputs(parsed, inputs)  # (N, features)
    y = sample_targets(spec, targets, len(x), parsed)  # (N, C)
    w = sample_weights(weights, len(x))  # (N,)
    classes, last = y.shape[1], parsed.parts[-1]
    features = x.shape[1]
    layers = np.zeros(len(parsed.parts), net.LAYER)
    ones, row, place, source = features, features + 1, 0, 0
    for layer, part in zip(layers, parsed.parts):
        size = part.linear.out_features
        layer["inputs"], layer["outputs"], layer["source"] = part.linear.in_features, size, source
        layer["z"], layer["h"] = row, row if part.kind == net.IDENTITY else row + size
        source = int(layer["h"])
        row = source + size
        layer["weight"], layer["bias"], layer["scale"] = place, -1, -1
        place += part.linear.weight.numel()
        if part.linear.bias is not None:
            layer["bias"] = place
            place += size
        layer["kind"], layer["a"], layer["b"] = part.kind, part.a, part.b
    output, target, floor = source, row, 0.0
    row += classes
    slope = residual = softmax = linear = norm = excess = growth = sample = -1
    if spec.kind == "cross_entropy":
        mass = y.sum(1)  # probabilities that do not sum to 1 are a sample weight
        norm, excess, growth, sample, softmax = range(row, row + 5)
        row = softmax + classes
        given = [(target, y / mass.clamp(min=1e-30).unsqueeze(1)), (sample, (w * mass).unsqueeze(1))]
        if len(layers) > 1 and last.kind == net.IDENTITY:
            linear = row
            row += last.linear.in_features
    else:
        slope, residual = row, row + classes
        row = residual + classes
        slopes, targets, floor = squares(spec, y, w)
        given = [(target, targets), (slope, slopes)]

    number, length = blocks(len(x))
    data = zeros(number, row, length)
    for first, values in ((0, x), *given):
        padded = np.zeros((number * length, values.shape[1]), np.float32)
        padded[: len(x)] = values.numpy()
        data[:, first : first + values.shape[1]] = padded.reshape(number, length, -1).transpose(0, 2, 1)
    data[:, ones] = 1.0
    return Network(
        data=data,
        theta=zeros(place),
        layers=layers,
        cache=zeros(number, 0, length),
        loss=net.CROSS_ENTROPY if spec.kind == "cross_entropy" else net.SQUARES,
        classes=classes,
        output=output,
        target=target,
        slope=slope,
        residual=residual,
        softmax=softmax,
        linear=linear,
        norm=norm,
        excess=excess,
        growth=growth,
        sample=sample,
        ones=ones,
        floor=floor,
    )
