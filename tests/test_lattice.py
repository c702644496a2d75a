"""Search on the grid: local minima by definition, global ones of tiny problems, energies, threads."""

import pytest
import torch

from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.gptq import gptq
from qanneal_opt.compress.grid import fit_grid
from qanneal_opt.compress.lattice import Lattice
from tests.lattices import every, layer, values


def setting(rows, columns, bits, seed, output=False, threads=1):
    problem = layer(rows, columns, seed, output=output)
    grid = fit_grid(problem.weight, problem.moment, bits)
    codes, _ = gptq(problem.weight, grid, Factor.of(problem.moment))
    return problem, grid, codes, Lattice(problem.weight, problem.moment, problem.output, threads=threads)


@pytest.mark.parametrize("output", [False, True])
def test_what_rows_contribute_sums_to_the_objective(output):
    problem, grid, codes, lattice = setting(9, 20, 3, 0, output)
    assert float(lattice.errors(codes, grid).sum()) == pytest.approx(problem.objective(grid.decode(codes)))


@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize("sweeps", [0, 20])
def test_no_single_step_improves_what_comes_back(output, sweeps, monkeypatch):
    monkeypatch.setattr("qanneal_opt.compress.lattice._VISITS", 500)
    problem, grid, codes, lattice = setting(6, 19, 2, 1, output)
    found = lattice.search(codes, grid, sweeps=sweeps)
    best = problem.objective(grid.decode(found))
    for r in range(6):
        for c in range(19):
            for step in (-1, 1):
                if 0 <= int(found[r, c]) + step <= grid.top:
                    moved = found.clone().short()
                    moved[r, c] += step
                    assert problem.objective(grid.decode(moved)) >= best * (1 - 1e-4)


@pytest.mark.parametrize("output", [False, True])
def test_annealing_finds_the_best_codes_of_tiny_problems_and_descent_does_not(output):
    hits, lucky, states = 0, 0, every(4, 2)
    for seed in range(30):
        problem, grid, codes, lattice = setting(2, 2, 2, seed, output)
        least = float(values(problem, grid, states.reshape(-1, 2, 2)).min()) * (1 + 1e-5)
        found = [lattice.search(codes, grid, sweeps=100, seed=k) for k in range(5)]
        hits += min(problem.objective(grid.decode(c)) for c in found) <= least
        lucky += problem.objective(grid.decode(lattice.search(codes, grid, sweeps=0))) <= least
    assert hits >= 25 and hits > lucky


@pytest.mark.parametrize("output", [False, True])
def test_annealing_is_no_worse_than_descent_and_better_on_the_average(output):
    ratios = []
    for seed in range(5):
        problem, grid, codes, lattice = setting(48, 64, 3, seed, output)
        down, annealed = (lattice.search(codes, grid, sweeps=sweeps, seed=seed) for sweeps in (0, 200))
        if not output:
            assert bool((lattice.errors(annealed, grid) <= lattice.errors(down, grid)).all())
        ends = [problem.objective(grid.decode(c)) for c in (annealed, down, codes)]
        assert ends[0] <= ends[1] <= ends[2]
        ratios.append(ends[0] / ends[1])
    assert sum(ratios) / 5 < 0.97


@pytest.mark.parametrize("output", [False, True])
def test_a_seed_gives_the_same_codes_in_any_number_of_threads(output):
    problem, grid, codes, lattice = setting(70, 40, 3, 3, output)
    alone = lattice.search(codes, grid, sweeps=30, seed=5)
    several = Lattice(problem.weight, problem.moment, problem.output, threads=3)
    assert torch.equal(alone, several.search(codes, grid, sweeps=30, seed=5))
    assert not torch.equal(alone, lattice.search(codes, grid, sweeps=30, seed=6))


def test_rows_without_couplings_are_rounded_as_without_G():
    problem, grid, codes, lattice = setting(40, 24, 3, 4)
    coupled = Lattice(problem.weight, problem.moment, torch.eye(40))
    assert torch.equal(lattice.search(codes, grid, sweeps=0), coupled.search(codes, grid, sweeps=0))


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_units_of_inputs_do_not_matter(unit):
    problem, grid, codes, lattice = setting(20, 24, 3, 5)
    other = Lattice(problem.weight, problem.moment * unit)
    first, second = (x.search(codes, grid, sweeps=20, seed=1) for x in (lattice, other))
    assert float(lattice.errors(first, grid).sum()) == pytest.approx(
        float(lattice.errors(second, grid).sum()), rel=0.05
    )


def test_weights_that_no_input_reaches_are_left_alone():
    problem = layer(8, 20, 6)
    H = problem.moment.clone()
    H[4], H[:, 4] = 0.0, 0.0
    grid = fit_grid(problem.weight, H, 3)
    codes = grid.nearest(problem.weight)
    found = Lattice(problem.weight, H).search(codes, grid, sweeps=50)
    assert torch.equal(found[:, 4], codes[:, 4]) and not torch.equal(found, codes)
    dead = Lattice(problem.weight, torch.zeros(20, 20)).search(codes, grid, sweeps=50)
    assert torch.equal(dead, codes)
