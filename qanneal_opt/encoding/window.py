"""Continuous weights: a window of displacements around each, whose radius is a trust region."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.checks import check_int
from qanneal_opt.encoding.base import Encoded, gumbel, keep_best
from qanneal_opt.moves import Moves
from qanneal_opt.quadratic import Affine


@dataclass(frozen=True)
class Window:
    r"""Displacements of a continuous weight, the present value among them.

    .. math:: d_k = r\,(k - 2^{b-1}) / 2^{b-1}, \qquad k = 0 \dots 2^b - 1

    The bits of a weight are a word of the QUBO (``Qubo.word``): the annealer draws them together, where single flips
    would go from k = 3 to 4, next to it, through displacements farther away.

    The base optimizer trains these weights as ever; annealing moves some of them at once within the radius
    r, which doubles after a well-predicted step and halves after a badly predicted one. No variant of this
    beat a tuned Adam in our measurements: it is here for those who want to try.

    Args:
        bits: b, from 1 to 8.
        radius: r at the start, positive, in units of the weights.

    Raises:
        ValueError: if ``bits`` or ``radius`` is outside its range.

    >>> Window(bits=2, radius=0.5).displacements
    (-0.5, -0.25, 0.0, 0.25)
    """

    bits: int
    radius: float

    def __post_init__(self) -> None:
        check_int("bits", self.bits, 1, 8)
        if not (self.radius > 0 and math.isfinite(self.radius)):
            raise ValueError(f"Invalid radius: {self.radius}; a positive finite number is needed")

    @property
    def displacements(self) -> tuple[float, ...]:
        """The ``2 ** bits`` displacements, ascending."""
        half = 2 ** (self.bits - 1)
        return tuple(self.radius * (k - half) / half for k in range(2 * half))

    def affine(self, n: int) -> Affine:
        """Give the binary expansion of k for n weights: bit ``i * bits + j`` adds ``2 ** j`` to weight i's k.

        Returns:
            ``d = offset + matrix b`` with ``offset`` ``(n,)`` and ``matrix`` ``(n, n * bits)``, in words of ``bits``.
        """
        half = 2 ** (self.bits - 1)
        steps = self.radius / half * 2.0 ** torch.arange(self.bits, dtype=torch.float64)  # (bits,)
        matrix = torch.block_diag(*[steps[None]] * n) if n else torch.zeros(0, 0, dtype=torch.float64)
        return Affine(torch.full((n,), -self.radius, dtype=torch.float64), matrix, self.bits)

    def present(self, n: int) -> Tensor:
        """Give the bits of no displacement, ``(n * bits,)`` uint8: the highest bit of each weight set."""
        bits = torch.zeros(n, self.bits, dtype=torch.uint8)
        bits[:, -1] = 1
        return bits.flatten()

    def attach(self, param: Tensor, owner: int) -> EncodedWindow:
        """Give the state of ``param``."""
        return EncodedWindow(self, param, owner)

    def spec(self) -> dict[str, Any]:
        """Give the bits and the first radius."""
        return {"kind": "window", "bits": self.bits, "radius": self.radius}


class EncodedWindow(Encoded):
    """A continuous parameter and its trust radius.

    Attributes:
        bits: of each weight's displacement.
        radius: the present trust radius.
    """

    def __init__(self, encoding: Window, param: Tensor, owner: int) -> None:
        super().__init__(param, owner)
        if not param.is_floating_point() or param.numel() == 0:
            raise ValueError(
                f"Invalid params: {param.dtype}, shape {tuple(param.shape)}; Window needs floating weights"
            )
        self.bits = encoding.bits
        self.radius = encoding.radius
        self._bounds = (1e-3 * encoding.radius, 1e3 * encoding.radius)

    @property
    def window(self) -> Window:
        """The window at its present radius."""
        return Window(self.bits, self.radius)

    def adapt(self, actual: float, predicted: float) -> None:
        """Adapt the radius to the ratio of actual to predicted reduction (Conn, Gould and Toint, 2000)."""
        if predicted >= 0:
            return
        ratio = actual / predicted
        factor = 2.0 if ratio > 0.75 else 1.0 if ratio >= 0.25 else 0.5  # NaN is a bad prediction too
        self.radius = min(max(self.radius * factor, self._bounds[0]), self._bounds[1])

    def propose(
        self,
        gradient: Tensor,
        count: int,
        temperature: float,
        generator: torch.Generator,
        allowed: Tensor | None = None,
    ) -> tuple[Moves, Tensor]:
        """Rank weights by the gain of the largest displacement downhill; each move is to there."""
        down, up = gradient.new_tensor(self.window.displacements)[[0, -1]]
        size = torch.where(gradient.flatten() > 0, down, up)
        score = gradient.flatten() * size
        if temperature > 0:
            score = score - temperature * gumbel(tuple(score.shape), generator, score.device)
        if allowed is not None:
            score = torch.where(allowed.flatten(), score, math.inf)
        best = keep_best(score, count)
        return self.displace(best, size[best]), score[best].cpu().double()

    def sweep(self, generator: torch.Generator) -> Moves:
        """Give each weight, in random order, a random displacement."""
        index = torch.randperm(self.param.numel(), generator=generator)
        table = torch.tensor([d for d in self.window.displacements if d != 0.0], dtype=torch.float64)
        size = table[torch.randint(len(table), (len(index),), generator=generator)]
        return self.displace(index.to(self.param.device), size.to(self.param))

    def displace(self, index: Tensor, size: Tensor) -> Moves:
        """Give the moves of the weights ``index`` ``(n,)`` by ``size`` ``(n,)``, a change each."""
        value = self.param.detach().flatten()[index] + size.to(self.param)
        owner = torch.full((len(index),), self.owner, dtype=torch.int64)
        start = torch.arange(len(index) + 1)
        return Moves(owner, index.cpu(), size.to(value).cpu(), value.cpu(), torch.zeros_like(owner), start)

    def commit(self, moves: Moves) -> None:
        """Write the new weights."""
        index = moves.index.to(self.param.device)
        with torch.no_grad():
            self.param.put_(index, moves.value.to(self.param))

    def codes_at(self, index: Tensor) -> Tensor:
        """Give zeros: a continuous weight has no code; for ``index``, int64."""
        return torch.zeros_like(index)

    def tensors(self) -> dict[str, Tensor]:
        """The radius, a 0-d float64 tensor."""
        return {"radius": torch.tensor(self.radius, dtype=torch.float64)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take the radius."""
        self.radius = float(tensors["radius"])

    def snapshot(self) -> dict[str, Tensor]:
        """The weights, copied."""
        return {"weights": self.param.detach().clone()}

    def restore(self, snapshot: dict[str, Tensor]) -> None:
        """Write a snapshot's weights."""
        with torch.no_grad():
            self.param.copy_(snapshot["weights"])
