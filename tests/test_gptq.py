"""GPTQ against a literal loop, integer for integer."""

import pytest
import torch

from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.gptq import gptq, gptq_on_best
from qanneal_opt.compress.grid import fit_grid
from tests.lattices import layer, loop_gptq


@pytest.mark.parametrize("activation_order", [True, False])
@pytest.mark.parametrize(
    ("rows", "columns", "bits", "size"),
    [(70, 96, 3, None), (33, 50, 4, 16), (5, 7, 1, 3), (64, 200, 2, 64), (65, 33, 8, None)],
)
def test_every_integer_is_that_of_the_loop(rows, columns, bits, size, activation_order):
    for seed in range(3):
        problem = layer(rows, columns, seed)
        grid = fit_grid(problem.weight, problem.moment, bits, group_size=size)
        factor = Factor.of(problem.moment, damping=0.01, activation_order=activation_order)
        codes, _ = gptq(problem.weight, grid, factor, threads=2)
        assert torch.equal(codes, loop_gptq(problem.weight, grid, problem.moment, 0.01, activation_order))
        assert problem.objective(grid.decode(codes)) < problem.objective(grid.decode(grid.nearest(problem.weight)))


def test_the_price_of_an_error_is_what_the_columns_after_it_cannot_repair():
    problem = layer(1, 6, 0)
    factor = Factor.of(problem.moment, damping=0.0)
    H = problem.moment[factor.order][:, factor.order]
    for i in range(6):
        rest = H[i + 1 :, i + 1 :]
        repaired = H[i, i] - H[i, i + 1 :] @ torch.linalg.pinv(rest) @ H[i + 1 :, i]
        assert float(factor.price[i]) == pytest.approx(float(repaired), rel=1e-6)
    assert torch.equal(factor.order, torch.argsort(-problem.moment.diagonal()))


@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_fewer_samples_than_inputs_and_dead_inputs_have_a_factor(damping):
    problem = layer(4, 30, 0, samples=5)
    H = problem.moment.clone()
    H[3], H[:, 3] = 0.0, 0.0
    factor = Factor.of(H, damping=damping)
    assert bool(factor.spread.isfinite().all()) and bool((factor.price > 0).all())
    grid = fit_grid(problem.weight, H, 4)
    codes, _ = gptq(problem.weight, grid, factor)
    assert torch.equal(codes[:, 3], grid.nearest(problem.weight)[:, 3])  # no input reaches it


@pytest.mark.parametrize(
    ("rows", "columns", "size"), [(70, 130, None), (64, 96, 7), (2, 31, None), (129, 65, 64), (3, 1, None)]
)
def test_a_beam_of_width_1_rounds_alike_and_errors_are_those_of_the_codes(rows, columns, size):
    """Blocks of columns change no bit: the beam passes on each error at once."""
    for bits in (2, 8):
        problem = layer(rows, columns, bits)
        grid, factor = fit_grid(problem.weight, problem.moment, bits, group_size=size), Factor.of(problem.moment)
        codes, errors = gptq(problem.weight, grid, factor)
        assert torch.equal(codes, beam(problem.weight, grid, factor, width=1))
        scale, zero = (part.double() for part in grid.spread(columns))
        e = (codes - zero) * scale - problem.weight
        damped = problem.moment + factor.damping * torch.eye(columns, dtype=torch.float64)
        assert torch.allclose(errors, ((e @ damped) * e).sum(1), rtol=1e-9)


@pytest.mark.parametrize("size", [None, 16])
def test_each_row_gets_the_range_that_serves_it_best(size):
    problem = layer(40, 48, 0)
    factor = Factor.of(problem.moment)
    grids = [fit_grid(problem.weight, problem.moment, 2, group_size=size, weighted=w) for w in (True, False)]

    each = [gptq(problem.weight, grid, factor)[1] for grid in grids]
    grid, codes, errors = gptq_on_best(problem.weight, grids, factor)
    assert torch.equal(errors, torch.minimum(*each))
    assert 0 < int((each[0] < each[1]).sum()) < 40  # neither serves all
    again = gptq(problem.weight, grid, factor)
    assert torch.equal(codes, again[0]) and torch.equal(errors, again[1])
