"""The temperature that samples tell: against exact draws, in a batch, at the edges."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer, Exact, estimate_temperature
from qanneal_opt.samplers.schedules import flip_scale
from tests import qubos

problem = partial(qubos.problem, shared=True, offset=0.0)


@pytest.mark.parametrize("level", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_exact_draws_tell_their_temperature(seed, level):
    qubo = problem(10, seed)
    temperature = level * float(np.median(flip_scale(qubo)))
    bits = Exact().sample_arrays(qubo, num_reads=20_000, seed=seed, temperature=temperature).bits
    assert estimate_temperature(qubo, bits) == pytest.approx(temperature, rel=0.1)


def test_a_batch_is_one_estimate_and_units_do_not_matter():
    qubo = problem(10, 0, batch=3)
    bits = Exact().sample_arrays(qubo, num_reads=5_000, seed=0, temperature=3.0).bits
    assert estimate_temperature(qubo, bits) == pytest.approx(3.0, rel=0.1)
    for unit in (1e-200, 1e200):
        other = Qubo(qubo.linear * unit, qubo.quadratic * unit)
        assert estimate_temperature(other, bits) == pytest.approx(unit * estimate_temperature(qubo, bits), rel=1e-6)


def test_states_without_a_temperature():
    qubo = Qubo([1.0, -1.0], torch.zeros(2, 2))
    assert estimate_temperature(qubo, [[0, 1]] * 3) == 0.0
    assert estimate_temperature(qubo, [[1, 0], [0, 1]]) == math.inf
    assert math.isnan(estimate_temperature(Qubo([0.0], [[0.0]]), [[1]]))
    assert math.isnan(estimate_temperature(Qubo([], []), np.zeros((3, 0))))
    with pytest.raises(ValueError, match="Invalid bits: entries"):
        estimate_temperature(qubo, [[0, 2]])


def test_the_annealer_tells_it_where_reads_suffice():
    qubo = problem(40, 1)
    drawn = Annealer().sample_arrays(qubo, num_reads=100, seed=0, temperature=8.0)
    assert drawn.info["temperature_estimate"] == pytest.approx(8.0, rel=0.1)
    assert drawn.info["temperature_estimate"] == estimate_temperature(qubo, drawn.bits)
    for arguments in ({"num_reads": 99, "temperature": 8.0}, {"num_reads": 100}):
        assert "temperature_estimate" not in Annealer().sample_arrays(qubo, seed=0, **arguments).info
