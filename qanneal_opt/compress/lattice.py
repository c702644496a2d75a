r"""Search on the grid from a given start: coordinate descent, and annealing with energy-referenced temperatures.

With the rows :math:`e_r` of E = V - W, :math:`f = \mathrm{tr}(G E H E^\top)` as a function of row r alone is
:math:`G_{rr} (e_r + o_r)' H (e_r + o_r) + \ldots` with :math:`o_r = \sum_{k \ne r} G_{rk} e_k / G_{rr}`: the rows are
visited in turn, each aimed at what the others leave of the error.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.compress.forms import quadratic
from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.threads import in_threads
from qanneal_opt.samplers.layout import LANES

__all__ = ["Lattice"]

Array = np.ndarray[Any, Any]

_COLD = 0.4  # the last temperature, in units of the error that a degree of freedom has at the start
_STAY = 10  # sweeps of a row before the next, where rows feel each other
_BLOCK = 32  # rows whose fields are made together: one matrix product
_PIECE = 16  # rows a thread takes at a time
_VISITS = 6  # of a descent, at most: where rows feel each other its end is far


class Lattice:
    """The search for codes with a small f, on the CPU.

    Args:
        weight: ``(R, C)``: W.
        moment: ``(C, C)``: H.
        output: ``(R, R)``: G, its diagonal positive; ``None`` for the identity: no row feels another.
        threads: rows that do not feel each other run in so many; no result depends on it.

    >>> lattice = Lattice(torch.tensor([[0.4, 0.4]]), torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    >>> grid = Grid(2, torch.tensor([[1.0]]), torch.tensor([[1.0]]), 2)
    >>> lattice.search(torch.tensor([[1, 1]], dtype=torch.uint8), grid, sweeps=0)
    tensor([[2, 1]], dtype=torch.uint8)
    """

    def __init__(self, weight: Tensor, moment: Tensor, output: Tensor | None = None, *, threads: int = 1) -> None:
        from qanneal_opt.compress.kernels_lattice import FAR

        self.weight, self.moment = weight.double().cpu(), moment.double().cpu()
        self.output = None if output is None else output.double().cpu()
        self.threads = threads
        self._coupling = None if self.output is None else (self.output / self.output.diagonal()[:, None]).float()
        unit = float(self.moment.diagonal().max().clamp(min=1e-300))
        self._single = (self.moment / unit).float()
        diagonal = self._single.diagonal()
        still = diagonal <= 1e-9  # what no input reaches is left where it is
        square = _padded(torch.nn.functional.pad(self._single, (0, 0, 0, -len(diagonal) % LANES)))
        self._matrix = torch.from_numpy(square).bfloat16().view(torch.int16).numpy().view(np.uint16)
        self._diagonal = _padded(torch.where(still, float(FAR), diagonal), float(FAR))

    def errors(self, codes: Tensor, grid: Grid) -> Tensor:
        """What rows contribute to f, ``(R,)`` float64; their sum is f."""
        difference = grid.decode(codes.cpu()).double() - self.weight
        if self.output is None:
            return quadratic(difference, self.moment)
        return (self.output @ difference @ self.moment * difference).sum(1)

    def search(
        self, codes: Tensor, grid: Grid, *, sweeps: int, hot: float = 2.0, seed: int = 0, settled: bool = False
    ) -> Tensor:
        """Descend from the start ``codes``, anneal, and descend again; 0 sweeps are coordinate descent.

        At temperature T the error of d degrees of freedom is about d T / 2, so T falls geometrically from ``hot`` to
        0.4 times the start's error / d: the entries of H say little about it where H is ill-conditioned. What comes
        back is no worse than coordinate descent from the same start, in f, and row by row where no row feels another;
        if ``settled``, no worse than the start.

        Args:
            codes: ``(R, C)`` uint8.
            grid: of the codes.
            sweeps: visits of every weight at a falling temperature.
            hot: the first temperature; at 2 the start's error is that of equilibrium.
            seed: any integer from 0.
            settled: the codes are the end of a search on nearly this grid: annealing begins at once.
        """
        rest, best = np.empty(0), (codes, self.errors(codes, grid))
        if not (settled and sweeps):
            best = self._better(self._run(codes, grid, rest, seed), grid, best)
        if sweeps:
            fall = hot * (_COLD / hot) ** (np.arange(sweeps) / max(sweeps - 1, 1))
            left = self._run(best[0], grid, fall, seed)
            # The descent starts from new fields: many additions have rounded the old ones.
            best = self._better(self._run(left, grid, rest, seed), grid, best)
        return best[0]

    def _better(self, codes: Tensor, grid: Grid, best: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Of these and the best codes, each with its errors, those of smaller f; by row if no row feels another."""
        errors = self.errors(codes, grid)
        if self.output is not None:
            return (codes, errors) if errors.sum() < best[1].sum() else best
        lower = errors < best[1]
        return torch.where(lower.to(codes.device)[:, None], codes, best[0]), torch.where(lower, errors, best[1])

    def _run(self, codes: Tensor, grid: Grid, fall: Array, seed: int) -> Tensor:
        """Sweeps at the temperatures ``fall``, or a descent if there are none."""
        from qanneal_opt.compress.kernels_lattice import anneal

        rows, columns = codes.shape
        error = (grid.decode(codes.cpu()).double() - self.weight).float()
        pulls, states = _padded(error @ self._single), _padded(codes.float())
        steps = _padded(grid.spread(columns)[0].cpu(), 1.0)
        temperatures = self._units(error) if len(fall) else np.zeros(rows, np.float32)
        keys = np.random.default_rng(seed).integers(2**64, size=rows, dtype=np.uint64)

        def work(fields: Array, rows: slice, coupling: Array, fall: Array, passed: int, low: int, high: int) -> int:
            moves: int = anneal(
                fields, pulls[rows], states[rows], steps[rows], self._matrix, self._diagonal, coupling, grid.top,
                temperatures[rows], fall.astype(np.float32), passed, keys[rows], low, high,
                np.empty((3, self._matrix.shape[1]), np.float32),
            )  # fmt: skip
            return moves

        if self._coupling is None:
            fields, free = pulls.copy(), np.empty((0, 0), np.float32)
            in_threads(partial(work, fields, slice(None), free, fall, 0), rows, _PIECE, self.threads)
        else:
            for passed in range(0, len(fall), _STAY) if len(fall) else range(_VISITS):
                moves = 0
                for low in range(0, rows, _BLOCK):
                    block = slice(low, low + _BLOCK)
                    fields = (self._coupling[block] @ torch.from_numpy(pulls)).numpy()
                    inner = self._coupling[block, block].contiguous().numpy()
                    moves += work(fields, block, inner, fall[passed : passed + _STAY], passed, 0, len(fields))
                if moves == 0:
                    break
        return torch.from_numpy(states[:, :columns]).to(codes)

    def _units(self, error: Tensor) -> Array:
        """What each row's temperatures are given in: its energy, the others held, by its degrees of freedom."""
        if self._coupling is not None:
            error = self._coupling @ error  # with what the other rows add
        energy = ((error @ self._single) * error).sum(1).clamp(min=0.0)
        units: Array = (energy / error.shape[1]).numpy()
        return units


def _padded(rows: Tensor, value: float = 0.0) -> Array:
    """Rows as the kernels read them: float32, contiguous, a multiple of 16 columns."""
    padding = (0, -rows.shape[-1] % LANES)
    return torch.nn.functional.pad(rows.cpu().float(), padding, value=value).contiguous().numpy()
