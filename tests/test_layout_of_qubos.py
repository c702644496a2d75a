"""How compiled samplers read QUBOs: padding, alignment, units of energy."""

import numpy as np
import pytest

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.cooling import minimising
from qanneal_opt.samplers.layout import LANES, Dense, Sparse, laid_out


def problem(n, scale, batch=None, shared=False):
    rng = np.random.default_rng(n)
    quadratic = rng.normal(size=(n, n) if batch is None or shared else (batch, n, n)) * scale
    quadratic = quadratic + quadratic.swapaxes(-1, -2)
    quadratic[..., np.arange(n), np.arange(n)] = 0
    return Qubo(rng.normal(size=n if batch is None else (batch, n)), quadratic)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1.0, 1e100])
@pytest.mark.parametrize(("batch", "shared"), [(None, False), (3, False), (3, True)])
@pytest.mark.parametrize("n", [1, 16, 21])
def test_rows_are_the_matrix_in_units_of_a_power_of_two(n, batch, shared, scale):
    qubo = problem(n, scale, batch, shared)
    dense = Dense.of(qubo)
    count = 1 if batch is None else batch
    assert dense.rows.shape == (1 if shared else count, n, -(-n // LANES) * LANES)
    assert dense.rows.ctypes.data % 64 == dense.linear.ctypes.data % 64 == 0
    assert not dense.rows[..., n:].any()
    assert not dense.linear[:, n:].any()
    for k in range(count):
        one, rows = qubo.problem(k), dense.rows[k if len(dense.rows) > 1 else 0]
        assert np.frexp(dense.unit[k])[0] == 0.5
        np.testing.assert_allclose(rows[:, :n], one.quadratic / dense.unit[k], rtol=1e-7, atol=1e-30)
        np.testing.assert_allclose(dense.linear[k, :n], one.linear / dense.unit[k], rtol=1e-7, atol=1e-30)
    assert max(np.abs(dense.rows).max(), np.abs(dense.linear).max()) <= 1
    assert shared or all(max(np.abs(r).max(), np.abs(v).max()) >= 0.5 for r, v in zip(dense.rows, dense.linear))
    assert not shared or len(set(dense.unit)) == 1


def test_nothing_is_a_layout_too():
    dense = Dense.of(Qubo([], []))
    assert dense.rows.shape == (1, 0, 0)
    assert Dense.of(Qubo(np.zeros(2), np.zeros((2, 2)))).unit.tolist() == [1.0]


@pytest.mark.parametrize(("batch", "shared"), [(None, False), (2, False), (2, True)])
def test_lists_of_neighbours_are_the_matrix_too(batch, shared):
    rng = np.random.default_rng(0)
    qubo = problem(300, 1e-3, batch, shared)
    mask = np.triu(rng.random(qubo.quadratic.shape) < 0.03, 1)
    qubo = Qubo(qubo.linear, qubo.quadratic.numpy() * (mask | mask.swapaxes(-1, -2)))
    dense, sparse = Dense.of(qubo), laid_out(qubo)
    assert isinstance(sparse, Sparse)
    starts, places, values = sparse.rows
    rows, exact = np.zeros_like(dense.rows), np.zeros((len(dense.rows), 300, 300))
    for m, own in enumerate(starts):
        for i in range(300):
            entries = slice(own[i], own[i + 1])
            rows[m, i, places[entries]] = values[entries]
            exact[m, i, places[entries]] = sparse.exact[1][2][entries]
    assert (rows == dense.rows).all()
    assert (exact == dense.exact[1]).all()
    for name in ("linear", "unit", "scales"):
        np.testing.assert_allclose(getattr(sparse, name), getattr(dense, name), rtol=1e-12)


def test_small_and_dense_problems_are_laid_out_dense():
    assert isinstance(laid_out(problem(300, 1.0)), Dense)
    assert isinstance(laid_out(Qubo(np.ones(100), np.zeros((100, 100)))), Dense)
    assert isinstance(laid_out(Qubo(np.ones(300), np.zeros((300, 300)))), Sparse)


@pytest.mark.parametrize(("batch", "shared"), [(None, False), (3, False), (3, True)])
def test_scales_are_those_of_the_rows(batch, shared):
    qubo = problem(20, 5.0, batch, shared)
    quadratic = qubo.quadratic.numpy().copy()
    quadratic[..., 4, :] = quadratic[..., :, 4] = 0  # a bit without couplings does not count
    layout = Dense.of(Qubo(qubo.linear, quadratic))
    for k in range(1 if batch is None else batch):
        one = np.delete(quadratic if quadratic.ndim == 2 else quadratic[k], 4, 0)
        linear = np.delete(qubo.linear.numpy() if batch is None else qubo.linear[k].numpy(), 4)
        norms = np.linalg.norm(one, axis=1)
        fields = np.median(np.abs(2 * linear + one.sum(1)) / norms)
        expected = [np.sort(norms)[9] / layout.unit[k], np.sort(norms)[1] / layout.unit[k], fields]
        np.testing.assert_allclose(layout.scales[k], expected)
    assert Dense.of(Qubo(np.ones(3), np.zeros((3, 3)))).scales.tolist() == [[1.0, 1.0, 0.0]]


def test_annealing_begins_lower_where_fields_are_strong_and_scales_with_the_problem():
    glass = problem(40, 1.0)
    glass = Qubo(-glass.quadratic.sum(1) / 2, glass.quadratic)  # spins of it have no field
    tilted = Qubo(glass.linear + 20.0, glass.quadratic)

    def temperatures(qubo, **options):
        layout = Dense.of(qubo)
        return minimising(layout, 5, **options)[0] * layout.unit[0]

    falling = temperatures(glass)
    assert falling[0] > 2 * temperatures(tilted)[0]
    np.testing.assert_allclose(temperatures(tilted, fields=False), falling, rtol=1e-6)
    np.testing.assert_allclose(temperatures(Qubo(3 * glass.linear, 3 * glass.quadratic)), 3 * falling, rtol=1e-6)
    np.testing.assert_allclose(falling[1:] / falling[:-1], falling[1] / falling[0], rtol=1e-5)
