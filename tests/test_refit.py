"""The refit of grids against sums over weights, written out; and quadratic forms by groups."""

import pytest
import torch

from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.forms import by_groups, quadratic
from qanneal_opt.compress.gptq import gptq
from qanneal_opt.compress.grid import Grid, fit_grid
from qanneal_opt.compress.refit import refit_grid
from tests.lattices import layer


def errors(problem, grid, codes):
    scale, zero = (part.double() for part in grid.spread(codes.shape[1]))
    e = (codes - zero) * scale - problem.weight
    return ((e @ problem.moment) * e).sum(1)


def least_squares(problem, codes, group, features, root):
    """Coefficients `(R, k G)` of each row's features, k a group."""
    found = []
    for r, row in enumerate(codes):
        groups = range(int(group.max()) + 1)
        design = torch.stack([f * (group == g) for f in features(r, row) for g in groups], 1)
        found.append(torch.linalg.lstsq(root @ design, root @ problem.weight[r].double()).solution)
    return torch.stack(found)


def literal(problem, codes, grid, zero):
    """The refit as its docstring has it; no group is turned over here."""
    columns = codes.shape[1]
    group = torch.arange(columns) // grid.group_size
    root = torch.linalg.cholesky(problem.moment).T
    offset = grid.zero.double()
    if zero != "fixed":
        ones = torch.ones(columns, dtype=torch.float64)
        scale, shift = least_squares(problem, codes, group, lambda r, row: (row, ones), root).chunk(2, 1)
        offset = -shift / scale
    if zero == "integer":
        found = Grid(grid.bits, scale.float(), offset.float(), grid.group_size)
        gains = errors(problem, found, codes) < errors(problem, grid, codes)
        offset = grid.patched(found, gains).zero.double().round().clamp(0, grid.top)
    if zero != "real":
        scale = least_squares(problem, codes, group, lambda r, row: [row - offset[r, group]], root)
    found = Grid(grid.bits, scale.float(), offset.float(), grid.group_size)
    return grid.patched(found, errors(problem, found, codes) < errors(problem, grid, codes))


@pytest.mark.parametrize("zero", ["integer", "real", "fixed"])
@pytest.mark.parametrize(("bits", "size"), [(2, 40), (3, 16), (8, 40), (8, 15)])
def test_it_is_what_least_squares_give(bits, size, zero):
    problem = layer(24, 40, bits)
    grid = fit_grid(problem.weight, problem.moment, bits, group_size=size)
    codes, _ = gptq(problem.weight, grid, Factor.of(problem.moment))
    fitted = refit_grid(problem.weight, codes, grid, problem.moment, zero=zero)
    slow = literal(problem, codes.double(), grid, zero)
    assert torch.allclose(errors(problem, fitted, codes), errors(problem, slow, codes), rtol=1e-4)
    if size == 40:  # of groups that hang together a ridge keeps coefficients where they were
        assert torch.allclose(fitted.scale, slow.scale, rtol=1e-5) and torch.allclose(fitted.zero, slow.zero, rtol=1e-4)
    target = problem.weight.double() @ problem.moment
    again = refit_grid(problem.weight, codes, grid, problem.moment, zero=zero, target=target)
    assert torch.equal(fitted.scale, again.scale) and torch.equal(fitted.zero, again.zero)


@pytest.mark.parametrize("size", [60, 20])
def test_errors_far_below_the_weights_own_are_told_apart(size):
    """At 8 bits, on an H whose eigenvalues span nine decades, and a mean that is larger than all."""
    problem = layer(32, 60, 3)
    eigenvalues = torch.logspace(-9, 0, 60, dtype=torch.float64)
    axes = torch.linalg.qr(problem.moment).Q
    problem = type(problem)(problem.weight, (axes * eigenvalues) @ axes.T + 100.0)
    grid = fit_grid(problem.weight, problem.moment, 8, group_size=size)
    codes, _ = gptq(problem.weight, grid, Factor.of(problem.moment, damping=1e-9))
    before = errors(problem, grid, codes)
    assert float((before / quadratic(problem.weight.double(), problem.moment)).median()) < 1e-6
    stretched = Grid(8, grid.scale * (1 + 1e-5 * torch.linspace(-1, 1, 32)[:, None]), grid.zero, size)
    for start in (grid, stretched):
        for zero in ("integer", "real", "fixed"):
            fitted = refit_grid(problem.weight, codes, start, problem.moment, zero=zero)
            old, new = errors(problem, start, codes), errors(problem, fitted, codes)
            assert bool((new <= old).all())
    assert float((new / old).median()) < 0.9


@pytest.mark.parametrize(("columns", "size"), [(7, 7), (10, 3), (450, 450), (450, 200), (400, 1)])
def test_forms_of_pairs_of_groups_are_their_sums(columns, size):
    generator = torch.Generator().manual_seed(columns)
    rows = torch.randn(3, columns, generator=generator, dtype=torch.float64)
    root = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    H = root + root.T
    group = torch.arange(columns) // size
    member = (group[:, None] == torch.arange(int(group[-1]) + 1)).double()
    parts = member.T * rows[:, None]  # (R, G, C)
    assert torch.allclose(by_groups(rows, H, size), parts @ H @ parts.mT)
    assert torch.allclose(quadratic(rows, H), ((rows @ H) * rows).sum(1))
