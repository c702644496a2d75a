"""A stack of Linear layers with all its data: exact changes of the mean loss under moves of single weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanneal_opt.losses import Loss, describe
from qanneal_opt.moves import Moves

from .net import CHANGE
from .stack_layout import Unsupported, build, numbers, parse

__all__ = ["Stack", "Swept", "Unsupported"]


@dataclass(frozen=True, eq=False)
class Swept:
    """What uniform sweeps did.

    Attributes:
        codes: for each owner the codes after the last sweep, shaped and typed as given.
        best_codes: the codes at the sweep's end (or at the start) that had the least objective.
        value: objective at ``codes``.
        best_value: objective at ``best_codes``.
        proposed: moves evaluated.
        accepted: moves made.
    """

    codes: list[Tensor]
    best_codes: list[Tensor]
    value: float
    best_value: float
    proposed: int
    accepted: int


class Stack:
    r"""All the data, the present weights and activations of a stack of Linear layers.

    .. math:: J = \\frac{\\sum_s c_s\\, \\ell(h_L(x_s), y_s)}{\\sum_s c_s}, \\quad
              h_l = \\mathrm{act}_l(W_l h_{l-1} + b_l)

    A move of a weight into layer l changes one unit there; only that change is carried on to the outputs.
    Activations are float32, sums over samples float64. Weights are copied from the torch parameters by
    :meth:`load` and changed here only: writing accepted moves to the parameters is the caller's.
    One stack is for one thread at a time; two stacks share nothing.

    Args:
        model: a Sequential (nested ones too) of Linear, Flatten, Dropout, Identity and common activations,
            or a bare Linear; float32. It is evaluated as in eval mode.
        loss: cross-entropy (with label smoothing), mse or the hinge of :mod:`qanneal_opt.losses`.
        inputs: ``(N, ...)`` float32.
        targets: as the loss wants them.
        weights: ``(N,)`` non-negative sample weights.

    Raises:
        Unsupported: if the compiled code cannot evaluate this; the message says why.

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

    def __init__(
        self, model: nn.Module, loss: Loss, inputs: Any, targets: Any, weights: Tensor | None = None
    ) -> None:
        spec = describe(loss)
        if spec is None:
            raise Unsupported(f"Invalid loss: {loss!r}; cross_entropy, mse_loss or losses.hinge is needed")
        parsed = parse(model)
        self.net = build(parsed, spec, inputs, targets, weights)
        self.samples = len(inputs)
        self.value = float("nan")
        self.parameters: list[nn.Parameter] = []
        slots = []
        for number, part in enumerate(parsed.parts):
            for is_bias, parameter in enumerate((part.linear.weight, part.linear.bias)):
                if parameter is not None:
                    self.parameters.append(parameter)
                    slots.append((number, is_bias))
        self._slots = np.array(slots, np.int64)  # (parameters, 2)
        self._slot = {id(parameter): k for k, parameter in enumerate(self.parameters)}
        self._weights = self._views(self.net.theta)
        self._gradient = np.zeros_like(self.net.theta)
        self._gradients = self._views(self._gradient)

    def _views(self, flat: NDArray[np.float32]) -> list[Tensor]:
        parts = torch.from_numpy(flat).split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters)]

    @property
    def weights(self) -> list[Tensor]:
        """The present values of ``parameters`` in the stack's own memory: to read, not to write."""
        return self._weights

    def load(self) -> float:
        """Read the torch parameters, run all data forward, return J."""
        for mine, parameter in zip(self._weights, self.parameters):
            mine.copy_(parameter.detach())
        from .kernels import synchronize

        self.value = synchronize(self.net.address)
        return self.value

    def gradients(self) -> list[Tensor]:
        """d J / d p for each of ``parameters`` at the present weights; the next call writes to the same memory."""
        from .kernels import slopes

        slopes(self.net.address, self._gradient, False, False)
        return self._gradients

    def deltas(self, moves: Moves, owners: Sequence[nn.Parameter]) -> Tensor:
        """Exact change of J under each move alone: (m,) float64.

        A move of several changes is evaluated as one, so that a whole set of moves made together is one move.

        Args:
            moves: m moves; ``value`` is read, ``displacement`` is not.
            owners: the parameters that ``moves.owner`` counts.
        """
        return torch.from_numpy(self._run(moves, owners, np.full(len(moves), -np.inf), np.zeros(len(moves)))[1])

    def factors(self, moves: Moves, owners: Sequence[nn.Parameter], *, exact: bool = True) -> Tensor:
        """V (m, M) float32 with V V' the Gauss-Newton matrix of J over the moves.

        Row k is sqrt(weight times loss Hessian by the outputs) times u_k for all samples and outputs, and u_k is
        the exact change of the outputs under move k alone or, with ``exact=False``, its first-order part.
        """
        from .kernels_change import EXACT, LINEAR
        from .kernels_moves import factors

        data = self.net.data
        out = np.empty((len(moves), data.shape[0], self.net.numbers["classes"], data.shape[2]), np.float32)
        located = self._locate(moves, owners)
        factors(self.net.address, located.ctypes.data, numbers(moves.start), EXACT if exact else LINEAR, out)
        return torch.from_numpy(out.reshape(len(moves), -1))

    def metropolis(
        self, moves: Moves, owners: Sequence[nn.Parameter], temperature: float | Tensor, uniforms: Tensor
    ) -> Tensor:
        """Take moves in order, make each at once if dJ < 0 or u < exp(-dJ / T); which were made, (m,) bool.

        dJ is exact at the weights of that moment; at T = 0 only dJ < 0 counts.

        Args:
            moves: m moves.
            owners: the parameters that ``moves.owner`` counts.
            temperature: at least 0, in units of J: one number, or (m,).
            uniforms: (m,) in [0, 1).
        """
        heat = np.empty(len(moves))
        heat[:] = numbers(temperature) if isinstance(temperature, Tensor) else temperature
        return torch.from_numpy(self._run(moves, owners, heat, numbers(uniforms.double()))[0])

    def apply(self, moves: Moves, owners: Sequence[nn.Parameter]) -> float:
        """Make all moves together, return the new J."""
        together = replace(moves, start=torch.tensor([0, len(moves.value)]))
        self._run(together, owners, np.array([np.inf]), np.zeros(1))
        return self.value

    def _run(
        self, moves: Moves, owners: Sequence[nn.Parameter], heat: NDArray[np.float64], uniforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        from .kernels_moves import run

        accepted, deltas = np.zeros(len(moves), np.bool_), np.zeros(len(moves))
        located = self._locate(moves, owners)
        self.value = run(self.net.address, located.ctypes.data, numbers(moves.start), heat, uniforms, deltas, accepted, self.value)
        return accepted, deltas

    def sweep(
        self,
        codes: Sequence[Tensor],
        levels: Sequence[Tensor],
        scales: Sequence[Tensor],
        owners: Sequence[nn.Parameter],
        temperatures: Tensor,
        seed: int,
    ) -> Swept:
        """Sweep all weights of ``owners`` in random order, each to another of its levels, by Metropolis.

        The stack ends at the codes of the last sweep, which need not be the best.

        Args:
            codes: for each owner its codes, shaped as it is.
            levels: for each owner its values, (K,).
            scales: for each owner its scale: one number, one a row, or one a weight.
            owners: parameters with ``levels[codes] * scale`` as their present value.
            temperatures: (S,), one for each sweep, in units of J.
            seed: same seed, same result, bit for bit.

        Raises:
            ValueError: if an owner does not stand at its codes, or a code is none.
        """
        from .kernels_moves import sweep

        where, grid = self._grid(codes, levels, scales, owners)
        flat, heat = grid[-1], numbers(temperatures.double())
        best = flat.copy()
        self.value, best_value, proposed, accepted = sweep(
            self.net.address, where.ctypes.data, *grid, best, heat, np.uint64(seed % 2**64), self.value
        )

        def unpack(values: NDArray[np.int64]) -> list[Tensor]:
            parts = torch.from_numpy(values).split([code.numel() for code in codes])
            return [part.view(code.shape).to(code.dtype) for part, code in zip(parts, codes)]

        return Swept(unpack(flat), unpack(best), self.value, best_value, proposed, accepted)

    def _locate(self, moves: Moves, owners: Sequence[nn.Parameter]) -> NDArray[Any]:
        slots = np.array([self._slot[id(owner)] for owner in owners], np.int64)
        return self._changes(slots[numbers(moves.owner)], numbers(moves.index), numbers(moves.value.float()))

    def _changes(
        self, slot: NDArray[np.int64], index: NDArray[np.int64], value: NDArray[np.float32]
    ) -> NDArray[Any]:
        from .kernels_moves import locate

        out = np.empty(len(slot), CHANGE)
        if not locate(self.net.address, self._slots, slot, index, value, out.ctypes.data):
            raise ValueError("Invalid moves: an index lies outside its parameter")
        return out

    def _grid(
        self, codes: Sequence[Tensor], levels: Sequence[Tensor], scales: Sequence[Tensor], owners: Sequence[nn.Parameter]
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...]]:
        kinds = np.array([len(level) for level in levels], np.int64)
        table = np.zeros((len(owners), kinds.max()), np.float32)
        parts = []
        for k, (code, level, scale, parameter) in enumerate(zip(codes, levels, scales, owners)):
            table[k, : kinds[k]] = numbers(level.float())
            code, scale = numbers(code.long()).reshape(-1), numbers(scale.float()).reshape(-1)
            count = parameter.numel()
            if len(code) != count or count % len(scale) or not 0 <= code.min() <= code.max() < kinds[k]:
                raise ValueError(f"Invalid codes: owner {k} has {count} weights and {kinds[k]} levels")
            parts.append((np.full(count, k), np.arange(count), code, np.repeat(scale, count // len(scale))))
        owner, index, flat, wide = (np.concatenate(part) for part in zip(*parts))
        value = table[owner, flat] * wide
        slots = np.array([self._slot[id(parameter)] for parameter in owners], np.int64)
        where = self._changes(slots[owner], index, value)
        if not np.array_equal(self.net.theta[where["place"]], value):
            raise ValueError("Invalid codes: the weights that the stack holds are not levels[codes] * scale")
        return where, (owner, wide, table, kinds, flat)
