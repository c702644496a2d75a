"""One weight matrix rounded, by any method."""

from __future__ import annotations

import math
import time
from functools import cache
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.checks import check_int
from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.gptq import gptq_on_best
from qanneal_opt.compress.grid import ZEROS, fit_grid
from qanneal_opt.compress.lattice import Lattice
from qanneal_opt.compress.problem import Problem, Rounded
from qanneal_opt.compress.refit import refit_grid

__all__ = ["METHODS", "round_matrix"]

METHODS = ("rtn", "gptq", "cd", "beam", "anneal")

_LEAST = 1e-6  # damping of G: rows without any gradient keep a place on its diagonal


def round_matrix(
    problem: Problem,
    *,
    bits: int = 4,
    group_size: int | None = None,
    symmetric: bool = False,
    weighted: bool = True,
    zero: str = "integer",
    method: str = "anneal",
    sweeps: int = 200,
    seed: int = 0,
    threads: int | None = None,
    damping: float = 0.01,
    output_damping: float = 0.1,
    refit: bool = True,
    beam_width: int = 16,
    kronecker_passes: int = 2,
) -> Rounded:
    """Choose codes and a grid with a small f.

    ``"rtn"`` takes the nearest codes and ``"gptq"`` one column after the other; ``"beam"`` keeps the ``beam_width``
    cheapest beginnings of each row instead of one. ``"cd"`` goes from GPTQ's codes down to where no single step
    of a weight lowers f, as far as a few visits of each row take it where G couples rows; on the first
    grid ``"anneal"`` ends no higher than that. Grids are refitted afterwards, which either may profit from more. The
    first three do not see G.

    Args:
        problem: the matrix, and what its error costs.
        bits: 1 to 8.
        group_size: columns that share a scale; ``None``: whole rows.
        symmetric: zero points in the middle of the codes, which no refit moves.
        weighted: of the range from least to greatest weight, and the one of the least weighted error, each row gets
            that on which GPTQ errs less, and for ``"rtn"`` the latter; otherwise the former.
        zero: ``"integer"``: zero points are whole numbers, so that 0 is a level; ``"real"``: the refit takes any, and
            symmetric levels lie around 0 without one there.
        method: one of ``METHODS``.
        sweeps: visits of each weight by the annealing.
        seed: any integer from 0; equal seeds give equal codes.
        threads: at most so many; ``None`` for :func:`torch.get_num_threads`. No result depends on it.
        damping: of the mean of H's diagonal, added to it where codes and grids are sought; ``objective`` is without.
        output_damping: of the mean of G's diagonal, added to it: G comes from few samples.
        refit: fit the scales and zero points of each row to its codes (:func:`refit_grid`).
        beam_width: of the beam.
        kronecker_passes: annealings (or descents) in turn, each followed by a refit. Annealings after the first have
            half the sweeps, and begin at half the temperature.

    Returns:
        The codes and their grid, on the device of the weights. Compiled searches run on the CPU: what they need is
        copied there once, and the codes back.

    Raises:
        ValueError: a number out of its range.

    >>> problem = Problem(torch.tensor([[0.4, 0.5, -0.7]]), torch.tensor([[2.0, 1, 0], [1, 2, 1], [0, 1, 2]]))
    >>> rounded = round_matrix(problem, bits=2)
    >>> rounded.objective["final"] <= rounded.objective["gptq"] <= rounded.objective["rtn"]
    True
    """
    begun = time.perf_counter()
    if method not in METHODS:
        raise ValueError(f"Invalid method: {method!r}; must be one of {METHODS}")
    if zero not in ZEROS:
        raise ValueError(f"Invalid zero: {zero!r}; must be one of {ZEROS}")
    for name, value, least in (("sweeps", sweeps, 0), ("kronecker_passes", kronecker_passes, 1), ("seed", seed, 0)):
        check_int(name, value, least)
    for name, number in (("damping", damping), ("output_damping", output_damping)):
        if not 0 <= number < math.inf:
            raise ValueError(f"Invalid {name}: {number}; a finite number from 0 is needed")
    workers = torch.get_num_threads() if threads is None else threads
    weight, H = problem.weight.double(), problem.centred
    G = None if problem.output is None else _damped(problem.output.double(), output_damping)
    # A level at 0 is worth more than a range that fits: inputs may be large where weights are next to nothing.
    begin = zero if symmetric else "integer"
    kind: dict[str, Any] = {"group_size": group_size, "symmetric": symmetric, "zero": begin}
    ranges = (True, False) if weighted and method != "rtn" else (weighted,)
    grids = [fit_grid(weight, H, bits, weighted=by_error, **kind) for by_error in ranges]
    factor = Factor.of(H, damping=damping)
    # What is gained on eigenvalues that few data left small is not there on others: searched for are codes for more H.
    sought = H.clone()
    sought.diagonal().add_(factor.damping)
    grid, babai, _ = gptq_on_best(weight, grids, factor, threads=workers)
    nearest = grid.nearest(weight)
    ends = {"rtn": (nearest, grid), "gptq": (babai, grid)}
    loose = "fixed" if symmetric else zero
    target = weight @ sought if refit else None
    codes = nearest if method == "rtn" else babai
    if method in ("cd", "anneal"):
        lattice = Lattice(weight, sought, G, threads=workers)
        # A refit moves levels little under their codes: annealings after the first have less to find.
        most = sweeps if method == "anneal" else 0
        falls = [(most, 2.0), *[(most // 2, 1.0)] * (kronecker_passes - 1)]
        for turn, (visits, hot) in enumerate(falls):
            codes = lattice.search(codes, grid, sweeps=visits, hot=hot, seed=seed + turn, settled=turn > 0)
            if refit:
                grid = refit_grid(weight, codes, grid, sought, zero=loose, target=target)
    else:
        if method == "beam":
            codes = beam(weight, grid, factor, width=beam_width, threads=workers)
        if refit:
            grid = refit_grid(weight, codes, grid, sought, zero=loose, target=target)
    ends["final"] = codes, grid
    error = cache(lambda codes, grid: problem.objective(grid.decode(codes)))  # one end may be another
    objective = {name: error(*end) for name, end in ends.items()}
    shift = None
    if problem.mean is not None:
        shift = ((weight - grid.decode(codes).double()) @ problem.mean.double()).float()
    note = "G is zero, rounded by H alone" if G is None and problem.output is not None else ""
    return Rounded(codes, grid, shift, objective, time.perf_counter() - begun, note)


def _damped(output: Tensor, damping: float) -> Tensor | None:
    """G with a positive diagonal; ``None`` for one of zeros, which tells nothing."""
    mean = float(output.diagonal().mean())
    if mean <= 0.0:
        return None
    return output + max(damping, _LEAST) * mean * torch.eye(len(output), dtype=output.dtype, device=output.device)
