"""A stack of Linear layers with all its data: exact changes of the mean loss when single weights move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanneal_opt.losses import Loss, describe
from qanneal_opt.moves import Moves
from qanneal_opt.steps.net import CHANGE, IDENTITY
from qanneal_opt.steps.stack_data import build, numbers
from qanneal_opt.steps.stack_layout import Unsupported, parse
from qanneal_opt.steps.stack_refit import Refit
from qanneal_opt.steps.stack_sweep import Swept, sweep

__all__ = ["Refit", "Stack", "Swept", "Unsupported"]


class Stack:
    r"""All the data, the present weights and the activations of a stack of Linear layers.

    .. math:: J = \frac{\sum_s c_s\, \ell(h_L(x_s), y_s)}{\sum_s c_s}, \qquad
              h_l = \mathrm{act}_l(W_l h_{l-1} + b_l)

    A move of a weight into layer l changes one unit there, and only that change is carried on to the
    outputs. Activations are float32, sums over samples float64. Weights are copied from the torch parameters
    by :meth:`load` and changed here alone: writing accepted moves to the parameters is the caller's.
    One stack serves one thread at a time; two stacks share nothing. It cannot be copied or pickled.

    Args:
        model: a Sequential (nested ones too) of Linear, Flatten, Dropout, Identity and common activations,
            or a bare Linear; float32. It is evaluated as in eval mode.
        loss: cross-entropy (with label smoothing), mse or the hinge of :mod:`qanneal_opt.losses`.
        inputs: ``(N, ...)`` float32; copied, to the CPU if they are elsewhere.
        targets: as the loss wants them.
        weights: ``(N,)`` non-negative sample weights c.

    Attributes:
        parameters: weights and biases of the Linear layers, in order.
        value: J at the present weights.

    Raises:
        Unsupported: if compiled code cannot evaluate this; the message says why.

    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> for layer in (model[0], model[2]):
    ...     _ = nn.init.ones_(layer.weight)
    >>> stack = Stack(model, nn.functional.mse_loss, torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0]]))
    >>> stack.load()
    4.0
    >>> flip = Moves(*map(torch.tensor, ([0], [1], [-2.0], [-1.0], [0], [0, 1])))
    >>> stack.deltas(flip, [model[0].weight])
    tensor([-3.], dtype=torch.float64)
    """

    def __init__(self, model: nn.Module, loss: Loss, inputs: Any, targets: Any, weights: Tensor | None = None) -> None:
        spec = describe(loss)
        if spec is None:
            raise Unsupported(f"Invalid loss: {loss!r}; cross_entropy, mse_loss or losses.hinge is needed")
        parsed = parse(model)
        self.net = build(parsed, spec, inputs, targets, weights)
        self.value = float("nan")
        self.pairs = [(part.linear.weight, part.linear.bias) for part in parsed.parts]
        self.parameters: list[nn.Parameter] = []
        slots = []
        for number, pair in enumerate(self.pairs):
            for is_bias, parameter in enumerate(pair):
                if isinstance(parameter, nn.Parameter):
                    self.parameters.append(parameter)
                    slots.append((number, is_bias))
        self._slots = np.array(slots, np.int64)  # (parameters, 2)
        self.slot = {id(parameter): k for k, parameter in enumerate(self.parameters)}
        self._weights = self._views(self.net.theta)
        self.gradient = np.zeros_like(self.net.theta)
        self._gradients = self._views(self.gradient)

    @property
    def weights(self) -> list[Tensor]:
        """The present values of ``parameters``, in the stack's own memory: to read, not to write."""
        return self._weights

    def load(self, values: Sequence[Tensor] | None = None) -> float:
        """Read the torch parameters, or ``values`` in their place, run all data forward, and give J."""
        from qanneal_opt.steps.kernels_forward import synchronize

        for mine, value in zip(self._weights, self.parameters if values is None else values):
            mine.copy_(value.detach())
        self.value = synchronize(self.net.address)
        return self.value

    def gradients(self) -> list[Tensor]:
        """Give the gradient of J by each of ``parameters``; the next call writes to the same memory."""
        from qanneal_opt.steps.kernels_backward import gradients

        gradients(self.net.address, self.gradient, False)
        return self._gradients

    def refit(self, scaled: Sequence[nn.Parameter], scales: Sequence[Tensor], trained: Sequence[nn.Parameter]) -> Refit:
        """Give what takes gradient steps on scales and continuous parameters: a :class:`Refit`."""
        return Refit(self, scaled, scales, trained)

    def deltas(self, moves: Moves, owners: Sequence[Tensor]) -> Tensor:
        """Exact change of J under each move alone: (m,) float64.

        A move of several changes is evaluated as one: to try moves together, put their changes into one.

        Args:
            moves: m moves; ``value`` is read, ``displacement`` is not.
            owners: the parameters that ``moves.owner`` counts.
        """
        never = np.full(len(moves), -np.inf)
        return torch.from_numpy(self._run(moves, owners, never, np.zeros(len(moves)))[1])

    def factors(self, moves: Moves, owners: Sequence[Tensor], *, exact: bool = True) -> Tensor:
        """V (m, M) float32 with V V' the Gauss-Newton matrix of J over the moves.

        Row k is the root of (sample weight times the loss's Hessian by the outputs) times u_k, the change of
        the outputs under move k alone, or with ``exact=False`` its linear part.
        """
        from qanneal_opt.steps.kernels_couplings import factors
        from qanneal_opt.steps.kernels_propagate import EXACT, LINEAR

        blocks, _, length = self.net.data.shape
        out = np.empty((len(moves), blocks * int(self.net.numbers["classes"]) * length), np.float32)
        changes = self._locate(moves, owners)
        factors(self.net.address, changes.ctypes.data, numbers(moves.start), EXACT if exact else LINEAR, out)
        return torch.from_numpy(out)

    def couplings(self, moves: Moves, owners: Sequence[Tensor]) -> Tensor:
        """Gauss-Newton matrix of J over the moves: (m, m) float64, the product V V' of exact :meth:`factors`.

        Single weights of the last two layers under cross-entropy change the outputs of all samples in one
        direction, which makes their matrix several times cheaper than the product.
        """
        from qanneal_opt.steps.kernels_couplings import couplings

        located, layers = self._locate(moves, owners), self.net.layers
        softmax = self.net.numbers["softmax"] >= 0 and layers[-1]["kind"] == IDENTITY
        single = bool((moves.start.diff() == 1).all()) and located["layer"].min(initial=0) >= len(layers) - 2
        if not (softmax and single):
            factors = self.factors(moves, owners)
            return (factors @ factors.T).double()
        direction = located["layer"] * (layers["outputs"].max() + 1) + located["row"]
        order = np.argsort(direction, kind="stable")
        begin = np.flatnonzero(np.diff(direction[order], prepend=-1, append=direction.max(initial=0) + 1))
        room = np.empty((len(order) + len(begin) + 1) * self.net.data.shape[2], np.float32)
        out = np.zeros((len(order), len(order)))
        couplings(self.net.address, located.ctypes.data, order, begin, room, out)
        return torch.from_numpy(np.where(out == 0.0, out.T, out))

    def metropolis(
        self, moves: Moves, owners: Sequence[Tensor], temperature: float | Tensor, uniforms: Tensor
    ) -> Tensor:
        """Take moves in order, make each at once if dJ < 0 or u < exp(-dJ / T); which were made, (m,) bool.

        dJ is exact at the weights of that moment. At T = 0 only dJ < 0 counts.

        Args:
            moves: m moves.
            owners: the parameters that ``moves.owner`` counts.
            temperature: at least 0, in units of J: one number, or (m,).
            uniforms: (m,) in [0, 1).
        """
        heat = np.empty(len(moves))
        heat[:] = numbers(temperature) if isinstance(temperature, Tensor) else temperature
        return torch.from_numpy(self._run(moves, owners, heat, numbers(uniforms.double()))[0])

    def apply(self, moves: Moves, owners: Sequence[Tensor]) -> float:
        """Make all moves together, and give the new J."""
        together = replace(moves, start=torch.tensor([0, len(moves.value)]))
        self._run(together, owners, np.array([np.inf]), np.zeros(1))
        return self.value

    def sweep(
        self,
        codes: Sequence[Tensor],
        levels: Sequence[Tensor],
        scales: Sequence[Tensor],
        owners: Sequence[Tensor],
        temperatures: Tensor,
        seed: int,
    ) -> Swept:
        """Sweep all weights of ``owners`` in random order, each to another of its levels, by Metropolis.

        The stack ends at the codes of the last sweep, which need not be the best.

        Args:
            codes: for each owner its codes, shaped as it is.
            levels: for each owner its values, (K,).
            scales: for each owner its scale: one number, one a row, or one a weight.
            owners: parameters whose present value is ``levels[codes] * scale``.
            temperatures: (S,), one for each sweep, in units of J.
            seed: the same seed gives the same result, bit for bit.

        Raises:
            ValueError: if an owner does not stand at its codes, or a code is no level.
        """
        return sweep(self, codes, levels, scales, owners, temperatures, seed)

    def _run(
        self, moves: Moves, owners: Sequence[Tensor], heat: NDArray[np.float64], uniforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which moves were made, and the change of J under each."""
        from qanneal_opt.steps.kernels_moves import run

        accepted, deltas = np.zeros(len(moves), np.bool_), np.zeros(len(moves))
        address = self._locate(moves, owners)
        start = numbers(moves.start)
        self.value = run(self.net.address, address.ctypes.data, start, heat, uniforms, deltas, accepted, self.value)
        return accepted, deltas

    def _locate(self, moves: Moves, owners: Sequence[Tensor]) -> NDArray[Any]:
        slots = np.array([self.slot[id(owner)] for owner in owners], np.int64)
        return self.changes(slots[numbers(moves.owner)], numbers(moves.index), numbers(moves.value.float()))

    def changes(self, slot: NDArray[np.int64], index: NDArray[np.int64], value: NDArray[np.float32]) -> NDArray[Any]:
        """(c,) CHANGE; they are checked here, since kernels look at no bounds."""
        from qanneal_opt.steps.kernels_moves import locate

        out = np.empty(len(slot), CHANGE)
        if not locate(self.net.address, self._slots, slot, index, value, out.ctypes.data):
            raise ValueError("Invalid moves: an index lies outside its parameter")
        return out

    def _views(self, flat: NDArray[np.float32]) -> list[Tensor]:
        parts = torch.from_numpy(flat).split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters)]
