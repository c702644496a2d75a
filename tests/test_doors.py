"""The doors of our samplers: dimod models, Qubos, tensors of another device; good input and bad through each."""

import unittest

import dimod
import dimod.testing
import numpy as np
import pytest
import torch

from qanneal_opt import samplers
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer, Tabu
from qanneal_opt.testing import assert_sampler
from tests.elsewhere import ELSEWHERE, two_devices

OURS = [Annealer, Tabu]
SEATS = ["annealer", "tabu", "exact", "greedy", "dwave-sa", "dwave-tabu", "sqa"]
NAN, INF = float("nan"), float("inf")


@dimod.testing.load_sampler_bqm_tests(Annealer)
class TestAnnealer(unittest.TestCase):
    """Filled by dimod with its checks of every kind of model."""


@dimod.testing.load_sampler_bqm_tests(Tabu)
class TestTabu(unittest.TestCase):
    """As above."""


# --- dimod --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OURS)
def test_the_checks_of_dimod_and_our_own_pass(make):
    dimod.testing.assert_sampler_api(make())
    every = {"num_reads", "seed", "initial_states", "time_limit"}
    assert set(make().parameters) == every | (
        {"temperature", "num_sweeps", "cardinality"} if make is Annealer else set()
    )
    assert_sampler(make())
    assert_sampler(make.name)


@pytest.mark.parametrize("make", OURS)
@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_labels_and_vartype_stay(make, vartype):
    bqm = dimod.BinaryQuadraticModel({"b": 1.0, ("a", 0): -2.0, 7: 0.5}, {("b", ("a", 0)): 1.5}, 0.25, vartype)
    found = make().sample(bqm, num_reads=3, seed=0, initial_states={"b": 1, ("a", 0): 1, 7: 1})
    dimod.testing.assert_sampleset_energies(found, bqm)
    assert found.first.sample == dimod.ExactSolver().sample(bqm).first.sample
    assert (list(found.variables), found.vartype, len(found)) == (list(bqm.variables), bqm.vartype, 3)
    assert found.info["sampler"] == make.name


@pytest.mark.parametrize("make", OURS)
def test_empty_and_one_variable_models_and_those_without_couplings(make):
    for vartype in ("SPIN", "BINARY"):
        empty = dimod.BinaryQuadraticModel({}, {}, 1.5, vartype)
        assert make().sample(empty, num_reads=2).record.energy.tolist() == [1.5, 1.5]
        for bias in (-1.0, 0.0, 1.0):
            one = dimod.BinaryQuadraticModel({"x": bias}, {}, vartype)
            assert make().sample(one).first.energy == dimod.ExactSolver().sample(one).first.energy
    assert make().sample_ising({"a": 1.0, "b": -1.0}, {}).first.sample == {"a": -1, "b": 1}
    assert make().sample_qubo({("a", "a"): -1.0, ("a", "b"): 2.0}).first.sample == {"a": 1, "b": 0}


@pytest.mark.parametrize("make", OURS)
def test_initial_states_of_a_model_are_checked(make):
    bqm = dimod.BinaryQuadraticModel({"a": 1.0, "b": 1.0}, {}, "SPIN")
    with pytest.raises(ValueError, match=r"Invalid initial_states: variables .*; must be those of the model"):
        make().sample(bqm, initial_states={"a": 1, "c": 1})
    with pytest.raises(ValueError, match="Invalid initial_states: entries other than 0 and 1"):
        make().sample(bqm.change_vartype("BINARY", inplace=False), initial_states=([[2, 0]], ["a", "b"]))
    with pytest.raises(ValueError, match="Invalid initial_states: 2 states for 1 reads"):
        make().sample(bqm, initial_states=([[1, 1], [1, -1]], ["a", "b"]))


# --- devices ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEATS)
@pytest.mark.parametrize("shape", [(5,), (3, 5), (0, 5), (0,), (2, 0)])
@pytest.mark.parametrize("temperature", [None, 1.0])
def test_what_comes_from_another_device_goes_back_there(name, shape, temperature):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(shape[-1],) * 2)
    quadratic = torch.from_numpy(matrix + matrix.T - 2 * np.diag(matrix.diagonal()))
    linear = torch.from_numpy(rng.normal(size=shape))
    start = torch.zeros(*shape[:-1], 1, shape[-1], dtype=torch.uint8)
    arguments = {"num_reads": 4, "seed": 0, "temperature": temperature}
    seat = samplers.resolve(name)
    here = seat.sample_arrays(Qubo(linear, quadratic), initial_states=start, **arguments)
    with two_devices():
        qubo = Qubo(linear.to(ELSEWHERE), quadratic.to(ELSEWHERE))
        there = seat.sample_arrays(qubo, initial_states=start.to(ELSEWHERE), **arguments)
        assert there.bits.device == there.energies.device == ELSEWHERE
        assert torch.equal(there.bits.cpu(), here.bits)
        assert torch.equal(there.energies.cpu(), here.energies)
        if name in ("annealer", "tabu"):
            assert there.info["moved_from"] == str(ELSEWHERE)
            assert "moved_from" not in here.info


def test_the_estimate_and_a_number_of_ones_elsewhere():
    quadratic = torch.ones(6, 6) - torch.eye(6)
    with two_devices():
        qubo = Qubo(torch.zeros(2, 6).to(ELSEWHERE), quadratic.to(ELSEWHERE))
        drawn = Annealer().sample_arrays(qubo, num_reads=100, seed=0, temperature=5.0)
        assert 4.0 < drawn.info["temperature_estimate"] < 6.0
        held = Annealer().sample_arrays(qubo, num_reads=2, seed=0, cardinality=2)
        assert held.bits.sum(-1).cpu().tolist() == [[2, 2], [2, 2]]


# --- bad input ----------------------------------------------------------------------------------------------


def test_bad_problems_are_named_where_they_are_made():
    zero = np.zeros((2, 2))
    for bad in (NAN, INF, -INF):
        with pytest.raises(ValueError, match=r"Invalid linear: .* among its entries; must be finite"):
            Qubo([bad, 0.0], zero)
        with pytest.raises(ValueError, match=r"Invalid quadratic: .* among its entries; must be finite"):
            Qubo([0.0, 0.0], [[0.0, bad], [bad, 0.0]])
        with pytest.raises(ValueError, match=r"Invalid Q: .* among its entries; must be finite"):
            Qubo.from_matrix([[bad, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match=r"Invalid quadratic: .* must be symmetric"):
        Qubo([0.0, 0.0], [[0.0, 1.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match=r"Invalid quadratic: 3 on its diagonal; .* \(Qubo.from_matrix takes"):
        Qubo([0.0, 0.0], [[3.0, 1.0], [1.0, 0.0]])
    for linear, quadratic in (([0.0], zero), ([0.0] * 2, [0.0] * 2), (zero, np.zeros((3, 2, 2))), (0.0, zero)):
        with pytest.raises(ValueError, match=r"Invalid (quadratic|linear): shape"):
            Qubo(linear, quadratic)


@pytest.mark.parametrize("make", OURS)
@pytest.mark.parametrize("bad", [NAN, INF])
def test_bad_models_are_named(make, bad):
    for vartype in ("SPIN", "BINARY"):
        for linear, quadratic, offset in (({"a": bad}, {}, 0.0), ({}, {"ab": bad}, 0.0), ({"a": 1.0}, {}, bad)):
            bqm = dimod.BinaryQuadraticModel(linear, quadratic, offset, vartype)
            with pytest.raises(ValueError, match=r"Invalid (linear|quadratic|offset): .*; must be finite"):
                make().sample(bqm)
    with pytest.raises(ValueError, match="must be finite"):
        make().sample_ising({"a": bad}, {})
    with pytest.raises(ValueError, match="must be finite"):
        make().sample_qubo({("a", "b"): bad})
    for wrong in (np.zeros((2, 2)), {"a": 1.0}, None):
        with pytest.raises(TypeError, match=r"Invalid bqm: .*; must be a dimod.BinaryQuadraticModel"):
            make().sample(wrong)


@pytest.mark.parametrize("name", SEATS)
def test_every_seat_wants_a_qubo(name):
    for wrong in (np.zeros((2, 2)), dimod.BinaryQuadraticModel("SPIN"), [[0.0, 1.0]], None):
        with pytest.raises(TypeError, match=r"Invalid qubo: .*; must be a Qubo"):
            samplers.resolve(name).sample_arrays(wrong)


@pytest.mark.parametrize("name", SEATS)
def test_no_variables_is_no_difficulty(name):
    found = samplers.resolve(name).sample_arrays(Qubo([], [], 2.5), num_reads=3)
    assert (found.bits.shape, found.energies.tolist()) == ((3, 0), [2.5] * 3)
    found = samplers.resolve(name).sample_arrays(Qubo(np.zeros((2, 0)), [], [1.0, 2.0]), num_reads=1)
    assert (found.bits.shape, found.energies.tolist()) == ((2, 1, 0), [[1.0], [2.0]])


@pytest.mark.parametrize("make", OURS)
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"num_reads": 0}, ValueError),
        ({"time_limit": 0}, ValueError),
        ({"time_limit": NAN}, ValueError),
        ({"temperature": -1.0}, ValueError),
        ({"temperature": NAN}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 1.5}, TypeError),
        ({"initial_states": [0, 1]}, ValueError),
        ({"initial_states": [0, NAN, 1]}, ValueError),
    ],
)
def test_bad_requests_are_named_before_anything_is_done(make, arguments, error):
    with pytest.raises(error, match=f"Invalid {next(iter(arguments))}: "):
        make().sample_arrays(Qubo(np.zeros(3), np.zeros((3, 3))), **arguments)
