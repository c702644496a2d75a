"""Search on the grid from a given start: coordinate descent, and annealing with energy-referenced temperatures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.threads import in_threads
from qanneal_opt.samplers.layout import LANES

__all__ = ["errors", "search"]

_HOT, _COLD = 2.0, 0.1  # of the energy a degree of freedom has at the start
_HOT_SHORT, _SHORT = 1.0, 30  # so many sweeps or fewer begin cooler
_DESCENT = 200


def errors(value: Tensor, weight: Tensor, moment: Tensor) -> Tensor:
    """(v - w)' H (v - w) of each row, ``(R,)`` float64."""
    difference = value.double() - weight.double()
    return ((difference @ moment.double()) * difference).sum(1)


def search(
    weight: Tensor, codes: Tensor, grid: Grid, moment: Tensor, *, sweeps: int, seed: int = 0, threads: int = 1
) -> Tensor:
    """Lower (v - w)' H (v - w) of each row from the start ``codes``: anneal ``sweeps`` times, then descend.

    At temperature T the energy of d degrees of freedom is about d T / 2, so T falls geometrically from 2 to 0.1 times
    the start's energy / d: the scale of H's entries says little where H is ill-conditioned. No row ends worse than it
    began. ``sweeps=0`` is coordinate descent.

    Args:
        weight: ``(R, C)``: w.
        codes: ``(R, C)`` uint8: where to start.
        grid: v of the codes.
        moment: ``(C, C)``: H.
        sweeps: of the annealing.
        seed: any integer from 0.
        threads: rows run in so many; the result does not depend on it.
    """
    from qanneal_opt.compress.kernels_lattice import FAR, anneal

    rows, columns = weight.shape
    pad = (0, -columns % LANES)
    H = moment.double().cpu()
    w = weight.double().cpu()
    difference = grid.decode(codes).double().cpu() - w
    pull = difference @ H
    start = (pull * difference).sum(1)  # (R,)
    padded = torch.nn.functional.pad

    def laid_out(matrix: Tensor, value: float = 0.0) -> np.ndarray:  # type: ignore[type-arg]
        return np.ascontiguousarray(padded(matrix.cpu().float(), pad, value=value).numpy())

    unit = float(H.diagonal().max().clamp(min=1e-30))
    own = H.diagonal() / unit
    own = torch.where(own > 1e-9, own, torch.tensor(float(FAR), dtype=own.dtype))  # dead columns stay
    fields, states = laid_out(pull / unit), laid_out(codes)
    steps = laid_out(grid.spread(columns)[0], 1.0)
    matrix = np.ascontiguousarray(padded((H / unit).float(), (*pad, *pad)).numpy())
    diagonal = np.ascontiguousarray(padded(own.float(), pad, value=float(FAR)).numpy())
    place = np.arange(sweeps) / max(sweeps - 1, 1)
    hot = _HOT if sweeps > _SHORT else _HOT_SHORT
    level = hot * (_COLD / hot) ** place  # (S,)
    temperatures = (start.numpy()[:, None] / (unit * columns) * level).astype(np.float32)
    keys = np.random.default_rng(seed).integers(0, 2**63, rows).astype(np.uint64)

    def run(low: int, high: int) -> None:
        anneal(fields, states, steps, matrix, diagonal, grid.top, temperatures, _DESCENT, keys, low, high)

    in_threads(run, rows, threads)
    found = torch.from_numpy(states[:, :columns]).to(torch.uint8)
    ended = errors(grid.decode(found), w, H)
    return torch.where((ended < start)[:, None], found, codes.cpu()).to(codes.device)
