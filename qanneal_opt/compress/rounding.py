"""One weight matrix rounded, by any method."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.gptq import Factor, gptq
from qanneal_opt.compress.grid import Grid, fit_grid
from qanneal_opt.compress.lattice import Lattice
from qanneal_opt.compress.refit import refit_grid

__all__ = ["METHODS", "Problem", "Rounded", "round_matrix"]

METHODS = ("rtn", "gptq", "cd", "beam", "anneal")


@dataclass(frozen=True, eq=False)
class Problem:
    r"""The layer's error :math:`f(V) = \mathrm{tr}(G (V - W) H (V - W)^\top)`.

    Args:
        weight: ``(R, C)``: the target W.
        moment: ``(C, C)``: H, the mean of x x' over the inputs x, not centred.
        mean: ``(C,)``: the mean of x, where the bias may absorb the mean error; H is centred then.
        output: ``(R, R)``: G, the second moment of the gradients of the outputs; ``None`` for the identity.
    """

    weight: Tensor
    moment: Tensor
    mean: Tensor | None = None
    output: Tensor | None = None

    def centred(self) -> Tensor:
        """H of the objective, float64: centred if there is a mean."""
        H = self.moment.double()
        return H if self.mean is None else H - torch.outer(self.mean.double(), self.mean.double())

    def objective(self, value: Tensor) -> float:
        """f of weights ``(R, C)``."""
        difference = value.double() - self.weight.double()
        pull = difference @ self.centred()
        if self.output is not None:
            pull = self.output.double() @ pull
        return float((pull * difference).sum())


@dataclass(frozen=True, eq=False)
class Rounded:
    """A rounded matrix.

    Args:
        codes: ``(R, C)`` uint8.
        grid: of the codes.
        bias_shift: ``(R,)`` float32, to be added to the bias; ``None`` without a mean.
        objective: f of nearest rounding, of GPTQ, and of what is returned, ``rtn``, ``gptq``, ``final``.
        seconds: all it took.
        note: what was out of the ordinary, or empty.
    """

    codes: Tensor
    grid: Grid
    bias_shift: Tensor | None
    objective: dict[str, float]
    seconds: float
    note: str = ""


def round_matrix(
    problem: Problem,
    *,
    bits: int = 4,
    group_size: int | None = None,
    symmetric: bool = False,
    weighted: bool = True,
    zero: str = "integer",
    method: str = "anneal",
    sweeps: int = 100,
    seed: int = 0,
    threads: int | None = None,
    damping: float = 0.01,
    output_damping: float = 0.1,
    refit: bool = True,
    beam_width: int = 16,
    kronecker_passes: int = 3,
) -> Rounded:
    """Round one matrix."""
    begun = time.perf_counter()
    if method not in METHODS:
        raise ValueError(f"Invalid method: {method!r}; must be one of {METHODS}")
    workers = torch.get_num_threads() if threads is None else threads
    weight, H = problem.weight.double(), problem.centred()
    grid = fit_grid(weight, H, bits, group_size=group_size, symmetric=symmetric, weighted=weighted, zero=zero)
    factor = Factor.of(H, damping=damping)
    nearest, babai = grid.nearest(weight), gptq(weight, grid, factor, threads=workers)
    objective = {name: problem.objective(grid.decode(c)) for name, c in (("rtn", nearest), ("gptq", babai))}
    output = None if problem.output is None else _damped(problem.output.double(), output_damping)
    loose = "fixed" if symmetric else zero
    if method in ("cd", "anneal"):
        lattice, codes = Lattice(weight, H, output, threads=workers), babai
        for turn in range(kronecker_passes):
            codes = lattice.search(codes, grid, sweeps=sweeps if method == "anneal" else 0, seed=seed + turn)
            if refit:
                grid = refit_grid(weight, codes, grid, H, output, zero=loose)
    else:
        codes = nearest if method == "rtn" else babai
        if method == "beam":
            codes = beam(weight, grid, factor, width=beam_width, threads=workers)
        if refit:
            grid = refit_grid(weight, codes, grid, H, output, zero=loose)
    value = grid.decode(codes)
    objective["final"] = problem.objective(value)
    shift = None
    if problem.mean is not None:
        shift = ((weight - value.double()) @ problem.mean.double()).float()
    if not math.isfinite(objective["final"]):
        raise ValueError("Invalid moment: the objective is not finite")
    return Rounded(codes, grid, shift, objective, time.perf_counter() - begun)


def _damped(matrix: Tensor, damping: float) -> Tensor:
    diagonal = matrix.diagonal()
    return matrix + torch.diag_embed(damping * diagonal.mean().expand(len(diagonal)))
