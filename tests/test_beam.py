"""The beam: against enumeration, and no worse than GPTQ."""

import pytest
import torch

from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.gptq import gptq
from qanneal_opt.compress.grid import fit_grid
from tests.lattices import every, layer


def setting(rows, columns, bits, seed):
    problem = layer(rows, columns, seed)
    return problem, fit_grid(problem.weight, problem.moment, bits), Factor.of(problem.moment, damping=0.0)


def errors(problem, grid, codes):
    e = grid.decode(codes).double() - problem.weight.double()
    return ((e @ problem.moment) * e).sum(1)


@pytest.mark.parametrize("bits", [1, 2])
def test_a_beam_that_holds_everything_finds_the_best_codes(bits):
    problem, grid, factor = setting(5, 4, bits, 0)
    found = errors(problem, grid, beam(problem.weight, grid, factor, width=4**bits * 4))
    for r in range(5):
        row = grid.rows(slice(r, r + 1))
        e = row.decode(every(4, bits)).double() - problem.weight[r].double()
        assert float(found[r]) == pytest.approx(float(((e @ problem.moment) * e).sum(1).min()), rel=1e-5)


def prefixes(problem, grid, factor, r, width):
    """The beam of row r by sorting all continuations of all prefixes."""
    scale, zero = (part[r, factor.order].double() for part in grid.spread(len(factor.order)))
    beams = [(0.0, [], problem.weight[r, factor.order].double())]
    for i in range(len(scale)):
        grown = []
        for cost, codes, target in beams:
            for q in range(grid.top + 1):
                e = target[i] - (q - zero[i]) * scale[i]
                grown.append((cost + float(factor.price[i] * e * e), [*codes, q], target - e * factor.spread[i]))
        beams = sorted(grown, key=lambda b: b[0])[:width]
    return torch.tensor(beams[0][1])


@pytest.mark.parametrize("width", [1, 2, 3, 7, 16])
def test_it_keeps_the_cheapest_prefixes(width):
    problem, grid, factor = setting(6, 12, 2, 1)
    codes = beam(problem.weight, grid, factor, width=width)
    for r in range(6):
        assert torch.equal(codes[r, factor.order].long(), prefixes(problem, grid, factor, r, width))


def test_width_pays_and_threads_change_nothing():
    problem, grid, factor = setting(40, 64, 3, 2)
    one, four, sixteen = (beam(problem.weight, grid, factor, width=k) for k in (1, 4, 16))
    assert torch.equal(one, gptq(problem.weight, grid, factor)[0])
    e1, e4, e16 = (float(errors(problem, grid, c).sum()) for c in (one, four, sixteen))
    assert e16 < e4 < e1 and e16 < 0.9 * e1
    assert torch.equal(sixteen, beam(problem.weight, grid, factor, width=16, threads=3))


@pytest.mark.parametrize("width", [0, -1, 1.5, True, 4096])
def test_widths_out_of_range_are_refused(width):
    problem, grid, factor = setting(1, 3, 2, 0)
    with pytest.raises(ValueError, match="Invalid width"):
        beam(problem.weight, grid, factor, width=width)
