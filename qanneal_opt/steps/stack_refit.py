"""Full-batch gradient steps on what is continuous in a stack, while its discrete weights stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanneal_opt.steps.stack_data import Network, zeros
from qanneal_opt.steps.stack_layout import Unsupported

if TYPE_CHECKING:
    from qanneal_opt.steps.stack import Stack


class Refit:
    r"""Scales, biases and continuous weights of a stack as unknowns, discrete weights as constants.

    .. math:: z_l = s_l \odot (L_l h_{l-1}) + b_l, \qquad
              \frac{\partial J}{\partial s_{lj}} = \sum_x \frac{\partial J}{\partial z_{lj}} (L_l h_{l-1})_j

    with L = ``levels[codes]`` and one scale a row or one for the tensor. In the first layer L x is computed
    once, so that steps on a network with a discrete first layer never touch the inputs.

    Args:
        stack: a stack. The refit works in its memory: after :meth:`evaluate` the stack has to be loaded anew.
        scaled: weights that are a constant times a trained scale.
        scales: the scale of each, for its shape: one number, or one a row.
        trained: biases and continuous weights to train; all other parameters are constants.

    Attributes:
        values: the scales, then the values of ``trained``; read and written in place.
        unknowns: the same as one flat array.
        gradients: d J / d value for each of them, as :meth:`evaluate` left them.

    Raises:
        Unsupported: if a scaled parameter is a bias, a scale neither one number nor one a row, or a trained
            parameter not in the stack.
    """

    def __init__(
        self,
        stack: Stack,
        scaled: Sequence[nn.Parameter],
        scales: Sequence[Tensor],
        trained: Sequence[nn.Parameter],
    ) -> None:
        self.stack, self._scaled, self._trained = stack, list(scaled), list(trained)
        learning = {id(p) for p in trained}
        self._constants = [p for p in stack.parameters if id(p) not in learning]
        shapes = [p.shape for p in self._constants] + [s.shape for s in scales] + [p.shape for p in trained]
        sizes = [shape.numel() for shape in shapes]
        place = np.cumsum([1, *sizes])  # in theta; place 0 has a scale of 1 for constant weights
        theta = zeros(int(place[-1]))
        theta[0] = 1.0
        self.slopes, self.mean, self.square = (np.zeros_like(theta) for _ in range(3))
        unknown = len(self._constants)
        self.unknowns, self._shapes = theta[place[unknown] :], shapes[unknown:]
        self._fixed = _views(theta, shapes)[:unknown]
        self.values, self.gradients, self._means, self._squares = (
            _views(flat, shapes)[unknown:] for flat in (theta, self.slopes, self.mean, self.square)
        )
        parts = [(place[k], sizes[k], 0, k < unknown + len(scaled)) for k in range(unknown, len(sizes))]
        self.parts = np.array(parts, np.int64).reshape(-1, 4)

        at = {id(p): int(place[k]) for k, p in enumerate(self._constants)}
        at |= {id(p): int(place[unknown + len(scaled) + k]) for k, p in enumerate(trained)}
        self.at, self.scale_at = at, {id(p): int(place[unknown + k]) for k, p in enumerate(scaled)}
        begin = dict(zip(map(id, stack.parameters), np.cumsum([0, *(p.numel() for p in stack.parameters)])))
        copies = [(at[id(p)], begin[id(p)], p.numel()) for p in trained if id(p) in begin]
        self.copies = np.array(copies, np.int64).reshape(-1, 3)  # of trained parameters: here, in the stack, length
        scale = {id(p): unknown + k for k, p in enumerate(scaled)}
        layers, rows = stack.net.layers.copy(), 0
        for layer, (weight, bias) in zip(layers, stack.pairs):
            layer["weight"] = at[id(weight)]
            if bias is not None:
                layer["bias"] = at[id(bias)]
            if id(weight) not in learning:
                k = scale.pop(id(weight), -1)
                if k >= 0 and sizes[k] not in (1, layer["outputs"]):
                    shape = tuple(shapes[k])
                    raise Unsupported(f"Invalid scale: shape {shape}; one number or one a row is needed")
                layer["scale"], layer["step"] = (place[k], sizes[k] > 1) if k >= 0 else (0, 0)
                layer["cached"] = rows
                rows += int(layer["outputs"])
        if scale or not learning <= {id(p) for p in stack.parameters}:
            raise Unsupported("Invalid trained: only weights of Linear layers have scales, all must be in the stack")
        data = stack.net.data
        cache = zeros(data.shape[0], rows, data.shape[2])
        self.net = Network(data, theta, layers, cache, **stack.net.numbers)

    def load(self, signs: Sequence[Tensor], scales: Sequence[Tensor]) -> None:
        """Take ``levels[codes]`` and the scale of each scaled weight, present values of all others."""
        sign = dict(zip(map(id, self._scaled), signs))
        for mine, parameter in zip(self._fixed, self._constants):
            mine.copy_(sign.get(id(parameter), parameter.detach()))
        for mine, value in zip(self.values, [*scales, *(p.detach() for p in self._trained)]):
            mine.copy_(value)

    def evaluate(self) -> float:
        """Give J at the present ``values``, and leave its slopes in ``gradients``."""
        from qanneal_opt.steps.kernels_backward import gradients

        self.stack.value = float("nan")
        return gradients(self.net.address, self.slopes, True)

    def train(
        self,
        steps: int,
        moments: Sequence[tuple[Tensor, Tensor, Tensor]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
    ) -> float:
        """Take steps of Adam on ``values``, load the stack with the new weights, and give J there.

        Scales stay positive: where a step would have left the positive numbers, half the old one stands.

        Args:
            steps: how many.
            moments: for each of ``values`` its first and second moments and its number of steps (0-d), as
                ``torch.optim.Adam`` keeps them; changed in place.
            lr: learning rate.
            betas: decay of the moments.
            eps: added to the root of the second moment.
        """
        from qanneal_opt.steps.kernels_backward import train

        with self.moments(moments):
            train(self.net.address, self.slopes, self.mean, self.square, self.parts, steps, lr, *betas, eps)
            self.parts[:, 2] += steps
        return self.finish()

    @contextlib.contextmanager
    def moments(self, moments: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Iterator[None]:
        """Have the kernels step with ``moments``, as :meth:`train` takes them, for the length of a block."""
        for k, (mean, square, count) in enumerate(moments):
            self._means[k].copy_(mean)
            self._squares[k].copy_(square)
            self.parts[k, 2] = int(count)
        yield
        for k, (mean, square, count) in enumerate(moments):
            mean.copy_(self._means[k])
            square.copy_(self._squares[k])
            count.fill_(int(self.parts[k, 2]))

    def split(self, unknowns: NDArray[np.float32]) -> list[Tensor]:
        """Give scales and continuous parameters out of all ``unknowns``, without a copy."""
        parts = torch.from_numpy(unknowns).split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes)]

    def finish(self) -> float:
        """Load the stack with the weights at the present ``values``, and give J there."""
        weights = dict(zip(map(id, self._constants), self._fixed))
        weights |= dict(zip(map(id, self._trained), self.values[len(self._scaled) :]))
        for parameter, scale in zip(self._scaled, self.values):
            sign = weights[id(parameter)]
            weights[id(parameter)] = sign * scale.view(-1, *[1] * (sign.ndim - 1))
        return self.stack.load([weights[id(p)] for p in self.stack.parameters])


def _views(flat: NDArray[np.float32], shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = torch.from_numpy(flat)[1:].split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes)]
