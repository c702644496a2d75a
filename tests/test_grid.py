"""Grids: ranges, nearest codes, and their fit to codes that are held."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qanneal_opt.compress.grid import Grid, fit_grid
from qanneal_opt.compress.refit import refit_grid
from tests.lattices import layer


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans())
def test_nearest_codes_are_the_nearest(bits, rows, columns, size, symmetric, real):
    problem = layer(rows, columns, bits)
    zero = "real" if real else "integer"
    grid = fit_grid(problem.weight, problem.moment, bits, group_size=size, symmetric=symmetric, zero=zero)
    assert grid.scale.shape == grid.zero.shape == (rows, -(-columns // min(size, columns)))
    if not real:
        assert torch.equal(grid.zero, grid.zero.round())
    levels = torch.stack([grid.decode(torch.full((rows, columns), q)) for q in range(2**bits)])
    distance = (levels - problem.weight).abs()
    chosen = (grid.decode(grid.nearest(problem.weight)) - problem.weight).abs()
    assert torch.allclose(chosen, distance.amin(0), atol=1e-6)


def test_the_range_of_a_group_is_its_own():
    weight = torch.tensor([[0.0, 3.0, -10.0, 20.0, 0.5]])
    grid = fit_grid(weight, torch.eye(5), 2, group_size=2, weighted=False)
    assert torch.allclose(grid.scale, torch.tensor([[1.0, 10.0, 0.5 / 3]]))
    assert grid.zero.tolist() == [[0.0, 1.0, 0.0]]


def test_a_weighted_range_has_the_least_weighted_error_of_all_tried():
    problem = layer(20, 30, 0)
    price = problem.moment.diagonal()

    def errors(grid):
        return ((grid.decode(grid.nearest(problem.weight)) - problem.weight) ** 2 * price).sum(1)

    weighted = errors(fit_grid(problem.weight, problem.moment, 3))
    assert bool((weighted <= errors(fit_grid(problem.weight, problem.moment, 3, weighted=False)) + 1e-9).all())
    assert float(weighted.sum()) < 0.9 * float(
        errors(fit_grid(problem.weight, problem.moment, 3, weighted=False)).sum()
    )


def test_rows_of_zeros_and_single_numbers_stay_what_they_are():
    weight = torch.tensor([[0.0, 0.0], [2.0, 2.0], [-3.0, 0.0]])
    grid = fit_grid(weight, torch.eye(2), 2)
    assert torch.allclose(grid.decode(grid.nearest(weight)), weight)


@pytest.mark.parametrize("size", [12, 6])
def test_a_real_refit_is_the_least_squares_solution(size):
    problem = layer(4, 12, 1)
    weight, root = problem.weight.double(), torch.linalg.cholesky(problem.moment).T
    grid = fit_grid(weight, problem.moment, 2, group_size=size, zero="real")
    codes = grid.nearest(weight)
    fitted = refit_grid(weight, codes, grid, problem.moment, zero="real")
    group = torch.arange(12) // size
    for r in range(4):
        design = torch.stack(
            [f * (group == g) for g in range(12 // size) for f in (codes[r].double(), torch.ones(12).double())], 1
        )
        best = torch.linalg.lstsq(root @ design, root @ weight[r]).solution
        assert torch.allclose(fitted.decode(codes)[r].double(), design @ best, atol=1e-5)


@pytest.mark.parametrize("zero", ["integer", "fixed", "real"])
def test_a_refit_lowers_the_error_of_rows_and_keeps_the_kind(zero):
    problem = layer(16, 24, 2)
    grid = fit_grid(problem.weight, problem.moment, 2, group_size=8)
    codes = grid.nearest(problem.weight)
    fitted = refit_grid(problem.weight, codes, grid, problem.moment, zero=zero)
    old, new = (g.decode(codes).double() - problem.weight.double() for g in (grid, fitted))
    errors = [((e @ problem.moment) * e).sum(1) for e in (old, new)]
    assert bool((errors[1] <= errors[0]).all()) and float(errors[1].sum()) < 0.99 * float(errors[0].sum())
    assert bool((fitted.scale > 0).all())
    if zero == "integer":
        assert torch.equal(fitted.zero, fitted.zero.round()) and bool((fitted.zero <= 3).all())
    if zero == "fixed":
        assert torch.equal(fitted.zero, grid.zero)


def test_many_systems_are_solved_as_few(monkeypatch):
    problem = layer(16, 24, 2)
    grid = fit_grid(problem.weight, problem.moment, 2, group_size=8)
    codes = grid.nearest(problem.weight)
    whole = refit_grid(problem.weight, codes, grid, problem.moment)
    monkeypatch.setattr("qanneal_opt.compress.refit._NUMBERS", 150)
    assert torch.allclose(refit_grid(problem.weight, codes, grid, problem.moment).scale, whole.scale)


def test_a_refit_of_codes_that_are_all_equal_is_finite():
    weight = torch.full((2, 4), 0.3)
    grid = Grid(2, torch.ones(2, 1), torch.zeros(2, 1), 4)
    fitted = refit_grid(weight, torch.full((2, 4), 2, dtype=torch.uint8), grid, torch.eye(4), zero="fixed")
    assert torch.allclose(fitted.decode(torch.full((2, 4), 2)), weight, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bits": 0}, "Invalid bits: 0"),
        ({"bits": 9}, "Invalid bits: 9"),
        ({"bits": True}, "Invalid bits: True"),
        ({"bits": 2.0}, "Invalid bits: 2.0"),
        ({"group_size": 0}, "Invalid group_size: 0"),
        ({"zero": "float"}, "Invalid zero: 'float'"),
        ({"weight": torch.tensor([[1.0, torch.nan]])}, "Invalid weight: not finite"),
        ({"weight": torch.ones(2)}, r"Invalid weight: shape \(2,\)"),
        ({"moment": torch.eye(3)}, r"Invalid moment: shape \(3, 3\); must be \(2, 2\)"),
    ],
)
def test_what_is_out_of_range_is_named(changed, message):
    given = {"weight": torch.ones(1, 2), "moment": torch.eye(2), "bits": 3} | changed
    with pytest.raises(ValueError, match=message):
        fit_grid(**given)


def test_groups_that_would_be_turned_over_stay_and_the_others_are_fitted():
    problem = layer(6, 24, 4)
    grid = fit_grid(problem.weight, problem.moment, 2, group_size=8)
    codes = grid.nearest(problem.weight)
    codes[2, :8] = 3 - codes[2, :8]  # least squares wants a negative scale there
    fitted = refit_grid(problem.weight, codes, grid, problem.moment, zero="real")
    assert bool((fitted.scale > 0).all())
    assert fitted.scale[2, 0] == grid.scale[2, 0] and fitted.zero[2, 0] == grid.zero[2, 0]
    assert bool((fitted.scale != grid.scale).sum() == 17)
    assert problem.objective(fitted.decode(codes)) < problem.objective(grid.decode(codes))
