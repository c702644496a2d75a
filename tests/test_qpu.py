"""A quantum annealer's seat: embeddings, programming, temperatures, batches, and the hybrid solver's."""

import copy
import itertools
import json
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dimod
import numpy as np
import pytest
import torch
from dwave.system.testing import MockDWaveSampler

import qanneal_opt as qa
from qanneal_opt import samplers
from qanneal_opt.demo import alternation
from qanneal_opt.demo.contenders import QUBO, QUBO_HEAT
from qanneal_opt.demo.data import digits
from qanneal_opt.demo.mock_machine import MockMachine
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import QPU, Hybrid, estimate_temperature
from qanneal_opt.samplers.exact import all_bits, all_energies
from qanneal_opt.samplers.remote.embeddings import Embeddings, graph_key
from qanneal_opt.samplers.remote.machine import Machine
from qanneal_opt.samplers.remote.reduction import Reduced
from qanneal_opt.samplers.remote.tuning import Knobs
from qanneal_opt.testing import assert_sampler
from tests.machines import Faulty, network, seat
from tests.qubos import problem

TOPOLOGIES = [("pegasus", (4,)), ("zephyr", (3,)), ("chimera", (4, 4, 4))]


def boltzmann(energies, temperature):
    weights = np.exp((energies.min() - energies) / temperature)
    return weights / weights.sum()


# --- embeddings -----------------------------------------------------------------------------------------------------


def graph(topology, shape, broken=()):
    mock = MockDWaveSampler(topology_type=topology, topology_shape=list(shape), broken_nodes=list(broken))
    return mock.to_networkx_graph(), graph_key(topology, shape, mock.nodelist, mock.edgelist)


@pytest.mark.parametrize(("topology", "shape"), TOPOLOGIES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 9, 12])
def test_cliques_are_disjoint_minors(topology, shape, n):
    lattice, key = graph(topology, shape, broken=(30, 100))
    cliques = Embeddings(lattice, key, None).cliques(n, 3)
    assert 1 <= len(cliques) <= 3
    qubits = [qubit for clique in cliques for chain in clique for qubit in chain]
    assert len(set(qubits)) == len(qubits)
    for clique in cliques:
        assert len(clique) == n
        for chain in clique:
            assert len(chain) == 1 or all(lattice.subgraph(chain).degree(qubit) for qubit in chain)
        for one, other in itertools.combinations(clique, 2):
            assert any(lattice.has_edge(u, v) for u in one for v in other)


def test_embeddings_are_kept_extended_and_of_one_graph(tmp_path, monkeypatch):
    lattice, key = graph("pegasus", (4,))
    first = Embeddings(lattice, key, tmp_path).cliques(9, 1)
    more = Embeddings(lattice, key, tmp_path).cliques(9, 4)
    assert more[0] == first[0] and len(more) == 4
    import minorminer.busclique

    monkeypatch.setattr(minorminer.busclique, "find_clique_embedding", lambda *a, **k: 1 / 0)
    kept = Embeddings(lattice, key, tmp_path)
    assert kept.cliques(9, 2) == more[:2] and kept.cached() == {9: 4}
    other, another = graph("pegasus", (4,), broken=(100,))
    assert another != key
    with pytest.raises(ZeroDivisionError):
        Embeddings(other, another, tmp_path).cliques(9)
    assert not list(tmp_path.rglob("*.part"))


def _fill(folder):
    lattice, key = graph("zephyr", (3,))
    return [Embeddings(lattice, key, folder).cliques(n, 2) for n in (9, 10, 11, 12)]


def test_two_processes_may_fill_one_cache_at_once(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        one, other = pool.map(_fill, [tmp_path] * 2)
    assert one == other == _fill(tmp_path)


def test_the_cache_is_where_the_user_wants_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("QANNEAL_OPT_CACHE", raising=False)
    assert QPU(MockMachine()).cache == tmp_path / "xdg" / "qanneal_opt"
    monkeypatch.setenv("QANNEAL_OPT_CACHE", str(tmp_path / "mine"))
    assert QPU(MockMachine()).cache == tmp_path / "mine"
    assert QPU(MockMachine(), cache=tmp_path).cache == tmp_path
    monkeypatch.delenv("QANNEAL_OPT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert QPU(MockMachine()).cache is None


def test_a_clique_of_64_takes_less_than_a_second_and_no_random_numbers(tmp_path):
    import random

    lattice, key = graph("pegasus", (16,), broken=(30, 500, 1000, 2001))
    random.seed(3)
    state = random.getstate()
    begun = time.process_time()
    (clique,) = Embeddings(lattice, key, tmp_path).cliques(64)
    assert time.process_time() - begun < 1.0
    assert max(len(chain) for chain in clique) <= 7
    assert random.getstate() == state


# --- programming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("topology", "shape"), TOPOLOGIES)
def test_states_of_whole_chains_have_the_problems_energies(tmp_path, topology, shape):
    machine = Faulty(topology=topology, shape=shape)
    sampler = seat(machine, tmp_path)
    qubo = problem(7)
    sampler.sample_arrays(qubo, num_reads=1)
    bqm, parameters = machine.submitted[0]
    (place,) = sampler.machine.placements(7, 1)
    scale = sampler.sample_arrays(qubo).info["scale"]
    states = all_bits(7)
    energies = np.array([bqm.energy(place.spread(bits)) for bits in states])
    gaps = (energies - energies[0]) / scale
    np.testing.assert_allclose(gaps, all_energies(qubo) - all_energies(qubo)[0], atol=1e-9)
    assert parameters["auto_scale"] is False and parameters["num_reads"] == 20
    low, high = machine.properties["extended_j_range"]
    values = np.array(list(bqm.quadratic.values()))
    fields = np.array(list(bqm.linear.values()))
    assert low - 1e-9 <= values.min() and values.max() <= high + 1e-9 and np.abs(fields).max() <= 4 + 1e-9
    touched = max(values.min() / low, values.max() / high, np.abs(fields).max() / 4)
    assert touched == pytest.approx(1.0)  # as strong as the ranges allow


def test_sums_over_a_qubits_couplers_stay_in_their_range(tmp_path):
    for limit in ("per_qubit_coupling_range", "per_group_coupling_range"):
        machine = Faulty()
        machine.properties.pop("per_qubit_coupling_range")
        machine.properties[limit] = [-1.0, 1.0]
        seat(machine, tmp_path).sample_arrays(problem(7))
        bqm, _ = machine.submitted[0]
        sums = [sum(bqm.adj[qubit].values()) for qubit in bqm.variables]
        assert min(sums) >= -1 - 1e-9 and max(sums) <= 1 + 1e-9
        if limit.startswith("per_qubit"):
            assert np.abs(sums).max() == pytest.approx(1.0)


def test_chain_strength_is_uniform_torque_compensation():
    from dwave.embedding.chain_strength import uniform_torque_compensation

    qubo = problem(12)
    model = qubo.to_bqm().change_vartype("SPIN", inplace=False)
    couplings = qubo.quadratic.numpy() / 4
    mine = Knobs().chain_strength(np.zeros(12), couplings, None)
    assert mine == pytest.approx(uniform_torque_compensation(model))
    assert Knobs().chain_strength(np.zeros(12), couplings, 100.0) == pytest.approx(300.0)  # held against the heat
    assert Knobs().chain_strength(np.full(3, -2.0), np.zeros((3, 3)), None) == 2.0
    assert Knobs().chain_strength(np.zeros(3), np.zeros((3, 3)), None) == 1.0


def test_programs_and_reads_are_those_of_ocean(tmp_path):
    from dwave.embedding import embed_bqm, unembed_sampleset

    qubo, machine = problem(9), MockMachine("zephyr", (3,))
    (place,) = seat(machine, tmp_path).machine.placements(9, 1)
    model = qubo.to_bqm().change_vartype("SPIN", inplace=False)
    fields = np.array([model.linear[k] for k in range(9)])
    biases, values = place.program(fields, qubo.quadratic.numpy() / 4, 2.5)
    chains = {k: place.qubits[place.owner == k].tolist() for k in range(9)}
    target = embed_bqm(model, chains, machine.to_networkx_graph(), chain_strength=2.5)
    np.testing.assert_allclose(biases, [target.linear[qubit] for qubit in place.qubits], rtol=1e-12)
    pairs = [tuple(pair) for pair in place.qubits[place.ends].T.tolist()]
    assert target.num_interactions == len(pairs)
    np.testing.assert_allclose(values, [target.quadratic[pair] for pair in pairs], rtol=1e-12)
    spins = np.random.default_rng(0).choice([-1, 1], size=(200, len(place.qubits)), p=[0.2, 0.8])
    bits, broken = place.read(spins, np.random.default_rng(1))
    answer = dimod.SampleSet.from_samples_bqm((spins, place.qubits.tolist()), target)
    theirs = unembed_sampleset(answer, chains, model, chain_break_fraction=True)
    decided = np.add.reduceat(spins, np.cumsum(place.lengths) - place.lengths, axis=1) != 0  # not ties
    assert 0.5 < decided.mean() < 1
    np.testing.assert_array_equal(bits[decided], theirs.record.sample[:, np.argsort(theirs.variables)][decided] > 0)
    np.testing.assert_allclose(broken.mean(1), theirs.record.chain_break_fraction)


def test_precision_that_is_lost_is_told(tmp_path):
    sampler = seat(MockMachine("zephyr", (2,)), tmp_path)
    even = sampler.sample_arrays(problem(6)).info["precision_lost"]
    quadratic = problem(6).quadratic.clone()
    quadratic[0, 1] = quadratic[1, 0] = 1e4
    uneven = sampler.sample_arrays(Qubo(problem(6).linear, quadratic)).info["precision_lost"]
    assert even < 0.2 < 0.8 < uneven < 1


def test_more_variables_than_asked_for_are_refused_and_more_than_fit_fall_back(tmp_path):
    sampler = seat(MockMachine("zephyr", (2,)), tmp_path, variables=10)
    with pytest.raises(ValueError, match=r"Invalid qubo: 11 variables; at most 10 are embedded"):
        sampler.sample_arrays(problem(11))
    large = seat(MockMachine("zephyr", (2,)), tmp_path)
    with pytest.warns(RuntimeWarning, match="no clique of 60 variables fits MockDWaveSampler .zephyr 2"):
        large.sample_arrays(problem(60))
    assert large.sample_arrays(problem(5)).info.get("fallback") is None  # and it is not left alone for it


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("topology", "shape"), TOPOLOGIES)
def test_it_minimises(tmp_path, topology, shape):
    qubo = problem(10, seed=4)
    sampler = seat(
        MockDWaveSampler(topology_type=topology, topology_shape=list(shape), parameter_warnings=False), tmp_path
    )
    reads = sampler.sample_arrays(qubo, num_reads=5, seed=1)
    assert reads.energies[0].item() == pytest.approx(all_energies(qubo).min())
    assert reads.bits.shape == (5, 10) and torch.equal(reads.energies, reads.energies.sort().values)
    assert reads.info["temperature"] is None and reads.info["qpu_access_time"] == pytest.approx(8550.28e-6)
    json.dumps(reads.info)


def test_reads_are_improved_by_descent_only_when_it_minimises(tmp_path):
    qubo = problem(10, seed=2)
    options = {"temperature": 2.0}  # of a hot machine
    for descend in (True, False):
        sampler = seat(MockMachine("zephyr", (2,), **options), tmp_path, descend=descend)
        reads = sampler.sample_arrays(qubo, num_reads=20, seed=0)
        flips = reads.bits[:, None, :] ^ torch.eye(10, dtype=torch.uint8)  # (R, n, n)
        local = all((qubo.energies(flips[k]) >= reads.energies[k] - 1e-9).all() for k in range(20))
        assert local == descend
    hot = sampler.sample_arrays(qubo, num_reads=20, temperature=5.0)
    assert float(hot.energies.std()) > 1.0


def test_it_is_a_sampler_like_any_other(tmp_path):
    assert_sampler(seat(MockMachine("zephyr", (3,)), tmp_path, reads=100), reproducible=False)


@pytest.mark.parametrize("heat", [0.08, 0.16, 0.32])
def test_the_temperature_is_learned_met_and_told(tmp_path, heat):
    """A machine half or twice as hot as is thought: the next calls have the right scale."""
    qubo, T = problem(8, seed=3), 3.0
    sampler = seat(MockMachine("zephyr", (3,), temperature=heat), tmp_path, reads=2000)
    first = sampler.sample_arrays(qubo, num_reads=2000, seed=0, temperature=T)
    assert first.info["temperature"] == pytest.approx(T * heat / 0.16, rel=0.2)  # chains break on a hot one
    assert first.info["temperature_asked"] == T
    for _ in range(3):
        again = sampler.sample_arrays(qubo, num_reads=2000, seed=0, temperature=T)
    assert again.info["temperature"] == pytest.approx(T, rel=0.1)
    for reads in (first, again):
        exact = boltzmann(all_energies(qubo), reads.info["temperature"])
        index = reads.bits.numpy() @ (1 << np.arange(8)[::-1])
        found = np.bincount(index, minlength=256) / len(reads.bits)
        assert np.abs(found - exact).sum() / 2 < 0.15


def test_a_temperature_beyond_the_ranges_is_told_as_it_is(tmp_path):
    sampler = seat(MockMachine("zephyr", (3,), temperature=2.0), tmp_path, reads=500)
    for _ in range(3):
        reads = sampler.sample_arrays(problem(8), num_reads=500, temperature=0.3)
    assert reads.info["temperature"] > 1.0


def test_where_no_temperature_can_be_told_there_is_none(tmp_path):
    sampler = seat(MockMachine("zephyr", (2,), temperature=1e-4), tmp_path)  # all reads are ground states
    reads = sampler.sample_arrays(problem(8), num_reads=4, temperature=1.0)
    assert reads.info["temperature"] is None
    assert sampler.tuning.of("MockDWaveSampler").temperature == pytest.approx(0.08)
    _, optimizer, train = network(sampler)
    train(1)
    assert optimizer.records[0].sampler_info["judged_by"] == "loss"


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperatures_are_those_of_ocean(temperature):
    from dwave.system.temperatures import maximum_pseudolikelihood_temperature

    qubo = problem(9, seed=1)
    drawn = samplers.Exact().sample_arrays(qubo, num_reads=500, seed=0, temperature=temperature)
    states = dimod.SampleSet.from_samples_bqm((drawn.bits.numpy().astype(np.int8), list(range(9))), qubo.to_bqm())
    theirs, _ = maximum_pseudolikelihood_temperature(qubo.to_bqm(), states)
    assert estimate_temperature(qubo, drawn.bits) == pytest.approx(float(theirs), rel=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_left_of_a_problem_has_its_draws(seed):
    rng = np.random.default_rng(seed)
    wild = rng.standard_cauchy((9, 9)) * rng.choice([0.05, 0.5, 5.0])
    wild = wild + wild.T
    np.fill_diagonal(wild, 0)
    qubo = Qubo(np.abs(rng.standard_cauchy(9)) * rng.choice([1.0, 3.0]) - 0.5, wild)
    reduced = Reduced.of(qubo, 0.3)
    left = boltzmann(all_energies(Qubo(reduced.linear, reduced.quadratic)), 0.3)
    states = reduced.restored(all_bits(len(reduced.kept)))
    found = np.zeros(2**9)
    np.add.at(found, states.astype(int) @ (1 << np.arange(9)[::-1]), left)
    assert np.abs(found - boltzmann(all_energies(qubo), 0.3)).sum() / 2 < 81 * np.exp(-12)
    assert np.abs(reduced.quadratic).max(initial=0) <= np.abs(wild).max()
    whole = Reduced.of(qubo, None)
    assert whole.kept.tolist() == list(range(9)) and np.array_equal(whole.quadratic, qubo.quadratic)


def test_a_batch_sits_side_by_side_in_as_few_submissions_as_fit(tmp_path):
    qubo = problem(9, batch=7)
    machine = Faulty(topology="pegasus", shape=(4,))
    sampler = seat(machine, tmp_path)
    reads = sampler.sample_arrays(qubo, num_reads=3, seed=1)
    fit = len(Machine(machine, None).placements(9, 7))
    assert fit > 1 and machine.calls == -(-7 // fit)
    for k in range(7):
        assert reads.energies[k, 0].item() == pytest.approx(all_energies(qubo.problem(k)).min())
    assert len(reads.info["problems"]) == 7 and sampler.ledger.problems == 7
    hot = sampler.sample_arrays(qubo, num_reads=3, temperature=2.0)
    assert len(hot.info["temperature"]) == 7
    assert reads.info["qpu_access_time"] < 7 * 0.0101 / 2


@pytest.mark.parametrize("temperature", [(0.1, 0.05), 0.0])
def test_blocks_of_a_step_are_one_submission(tmp_path, temperature):
    told = {}
    for together in (False, True):
        sampler = seat(MockMachine("zephyr", (3,)), tmp_path)
        _, optimizer, train = network(sampler, temperature=temperature, variables=4, side_by_side=together)
        train()
        told[together] = sampler.ledger
        assert sum(record.qpu_access_time for record in optimizer.records) == pytest.approx(told[together].charged)
        assert all(record.variables == 8 and record.candidates >= 1 for record in optimizer.records)
        assert "chain_breaks" in optimizer.records[0].sampler_info and not optimizer.records[0].fallback
    assert told[True].submissions == 4 and told[False].submissions == 8
    assert told[True].problems == told[False].problems == 8
    assert told[True].charged == pytest.approx(told[False].charged / 2)


def test_reverse_annealing_starts_at_the_present_weights(tmp_path):
    machine = Faulty()
    qubo, start = problem(8), torch.tensor([1, 0, 1, 1, 0, 0, 1, 0])
    annealing = {"annealing_time": 50.0}
    sampler = seat(machine, tmp_path, parameters=annealing)
    reads = sampler.sample_arrays(qubo, num_reads=4, initial_states=start)
    _, parameters = machine.submitted[0]
    (place,) = sampler.machine.placements(8, 1)
    assert parameters["initial_state"] == place.spread(start.numpy().astype(np.uint8))
    assert parameters["anneal_schedule"][0][1] == parameters["anneal_schedule"][-1][1] == 1.0
    assert reads.info["reverse"] and reads.energies[0] <= qubo.energies(start)
    sampler.sample_arrays(qubo, num_reads=4, initial_states=start, temperature=1.0)  # draws do not depend on it
    assert "annealing_time" not in parameters
    seat(machine, tmp_path, reverse=False, parameters=annealing).sample_arrays(qubo, initial_states=start)
    assert machine.submitted[-1][1]["annealing_time"] == 50.0
    machine.parameters.pop("anneal_schedule")  # a solver without
    seat(machine, tmp_path).sample_arrays(qubo, initial_states=start)
    assert not any("initial_state" in parameters for _, parameters in machine.submitted[1:])
    cold = Faulty()
    _, optimizer, train = network(seat(cold, tmp_path), temperature=0.0)
    train(1)
    assert "initial_state" in cold.submitted[0][1] and optimizer.records[0].sampler_info["reverse"]


def test_chains_that_break_are_made_stronger(tmp_path):
    sampler = seat(MockMachine("zephyr", (3,)), tmp_path, chain_limit=0.001, reads=500)
    told = [sampler.sample_arrays(problem(12), seed=0, temperature=20.0).info for _ in range(4)]
    assert told[0]["chain_breaks"] > 0.001 > told[-1]["chain_breaks"]
    assert told[-1]["chain_strength"] > 1.3 * told[0]["chain_strength"]
    assert sampler.ledger.broken > 0


def test_little_time_is_spent_outside_of_the_sampler(tmp_path):
    """CPU seconds, medians of seven calls, the least of three: other processes share the caches, if not the clock."""
    machine, spent, outside = MockMachine("pegasus", (16,)), [], []
    draw = machine.sample

    def timed(bqm, **parameters):
        begun = time.process_time()
        answer = draw(bqm, **parameters)
        spent.append(time.process_time() - begun)
        return answer

    machine.sample = timed
    sampler = QPU(machine, cache=tmp_path)
    for k in range(22):  # the first finds the embedding
        begun = time.process_time()
        drawn = sampler.sample_arrays(problem(64, seed=k), seed=k, temperature=16.0)
        outside.append(time.process_time() - begun - spent[-1])
        assert drawn.info["variables"] == 64
    assert min(np.median(np.reshape(outside[1:], (3, 7)), 1)) < 0.010


@pytest.mark.slow
def test_wrong_temperatures_do_not_cost_training(tmp_path):
    """Binary digits networks through a machine half and twice as hot as is thought, five seeds."""
    losses = {heat: [] for heat in (0.16, 0.08, 0.32)}
    for seed, heat in itertools.product(range(5), losses):
        sampler = QPU(MockMachine("pegasus", (6,), temperature=heat, seed=seed), cache=tmp_path)
        step = qa.QuboStep(sampler, temperature=QUBO_HEAT)
        losses[heat].append(alternation.train(digits(seed), (6,), step, QUBO, seed).loss)
    right = np.mean(losses.pop(0.16))
    assert all(np.mean(wrong) <= 1.1 * right for wrong in losses.values())


# --- the seat itself --------------------------------------------------------------------------------------------------


def test_it_connects_at_the_first_call_by_the_users_configuration(tmp_path, monkeypatch):
    made = []

    def connect(**config):
        made.append(config)
        return MockDWaveSampler(topology_type="zephyr", topology_shape=[2], parameter_warnings=False)

    monkeypatch.setattr("dwave.system.DWaveSampler", connect)
    monkeypatch.setenv("QANNEAL_OPT_CACHE", str(tmp_path))
    sampler = samplers.resolve("qpu")
    assert sampler.name == "qpu" and not made
    sampler.sample_arrays(problem(4))
    sampler.sample_arrays(problem(5))
    assert made == [{}]
    QPU(config={"solver": "mine", "region": "eu"}).sample_arrays(problem(4))
    assert made[1] == {"solver": "mine", "region": "eu"}


def test_a_machine_that_is_given_as_ocean_has_it_gets_its_seat(tmp_path, monkeypatch):
    monkeypatch.setenv("QANNEAL_OPT_CACHE", str(tmp_path))
    for topology, shape in (("pegasus", [3]), ("zephyr", [2])):
        machine = MockDWaveSampler(topology_type=topology, topology_shape=shape, parameter_warnings=False)
        _, optimizer, train = network(machine)
        train()
        assert isinstance(optimizer._alternation.steps[0].sampler, QPU)
        assert all(record.candidates and not record.fallback for record in optimizer.records)
        assert optimizer.records[-1].sampler_info["ledger"]["problems"] == 4

    class Hybrids(Leap, dimod.Sampler):
        pass

    assert isinstance(samplers.resolve(Hybrids()), Hybrid)
    assert isinstance(samplers.resolve(dimod.ExactSolver()), samplers.DimodSeat)
    assert isinstance(samplers.resolve(dimod.StructureComposite(dimod.ExactSolver(), [0], [])), samplers.DimodSeat)


def test_without_an_account_training_goes_on_locally(monkeypatch, tmp_path):
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "none.conf"))
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)
    _, optimizer, train = network(samplers.resolve("qpu"))
    with pytest.warns(RuntimeWarning, match="'annealer' samples in its place"):
        train()
    assert "4 answered locally" in optimizer.summary()


def test_it_is_copied_and_pickled_without_its_connection(tmp_path):
    sampler = seat(MockMachine("zephyr", (2,)), tmp_path)
    sampler.sample_arrays(problem(4))
    twin = copy.deepcopy(sampler)
    twin.sample_arrays(problem(4))
    assert (sampler.ledger.calls, twin.ledger.calls) == (1, 2)
    other = pickle.loads(pickle.dumps(twin))  # a mock machine goes with it
    other.sample_arrays(problem(4))
    assert (other.ledger.calls, other.attempts.ledger) == (3, other.ledger)
    plain = QPU(qpu_budget=1.0)
    assert pickle.loads(pickle.dumps(plain)).limits.budget == 1.0


def test_an_estimate_is_the_solvers_own_where_it_has_one():
    class Solver:
        def estimate_qpu_access_time(self, num_qubits, num_reads, **others):
            return 1000.0 * num_qubits + num_reads

    machine = Faulty()
    assert Machine(machine, None).seconds(10, {"num_reads": 100}) == pytest.approx(0.0167)
    machine.__dict__["solver"] = Solver()
    assert Machine(machine, None).seconds(10, {"num_reads": 100}) == pytest.approx(0.0101)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"qpu_budget": -1.0}, ValueError, r"Invalid qpu_budget: -1\.0"),
        ({"qpu_budget": float("nan")}, ValueError, "Invalid qpu_budget: nan"),
        ({"on_failure": "stop"}, ValueError, "Invalid on_failure: 'stop'; one of fallback, raise"),
        ({"deadline": 0}, ValueError, "Invalid deadline: 0"),
        ({"retries": -1}, ValueError, "Invalid retries: -1"),
        ({"reads": 0}, ValueError, "Invalid reads: 0"),
        ({"variables": 0}, ValueError, "Invalid variables: 0"),
        ({"chain_limit": 2.0}, ValueError, r"Invalid chain_limit: 2\.0"),
        ({"parameters": {"auto_scale": True}}, ValueError, "Invalid parameters: 'auto_scale'"),
        ({"machine": 3}, TypeError, "Invalid machine: 3"),
    ],
)
def test_bad_options_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        QPU(**arguments)


# --- the hybrid solver ------------------------------------------------------------------------------------------------


class Leap:
    """A hybrid solver that is exact, and tells its times as Leap does."""

    parameters = {"time_limit": [], "label": []}  # noqa: RUF012
    properties = {"chip_id": "hybrid_bqm"}  # noqa: RUF012

    def __init__(self):
        self.calls = []

    def min_time_limit(self, bqm):
        return 3.0

    def sample(self, bqm, time_limit, label):
        self.calls.append((len(bqm.variables), time_limit))
        answer = dimod.ExactSolver().sample(bqm).truncate(1)
        answer.info.update(qpu_access_time=40_000, charge_time=1e6 * time_limit, run_time=1e6 * time_limit)
        return answer


def test_the_hybrid_solver_takes_a_batch_at_once_and_respects_its_minimum():
    qubo, leap = problem(5, batch=3), Leap()
    sampler = Hybrid(leap, time_limit=1.0)
    reads = sampler.sample_arrays(qubo, num_reads=2)
    assert leap.calls == [(15, 3.0)]
    for k in range(3):
        assert reads.energies[k, 0].item() == pytest.approx(all_energies(qubo.problem(k)).min())
    told = reads.info["problems"][0]
    assert (told["time_limit"], told["minimum_time_limit"]) == (3.0, 3.0)
    assert reads.info["qpu_access_time"] == pytest.approx(0.04) and sampler.ledger.charged == 3.0
    assert reads.info["temperature"] is None
    Hybrid(leap, time_limit=5.0).sample_arrays(problem(4))
    assert leap.calls[-1] == (4, 5.0)


def test_the_hybrid_solver_has_a_budget_and_a_fallback_at_the_temperature_asked_for():
    sampler = Hybrid(Leap(), hybrid_budget=7.0)
    with pytest.warns(RuntimeWarning, match="budget of 7 s"):
        drawn = [sampler.sample_arrays(problem(5), temperature=1.0) for _ in range(3)]
    assert [one.info["temperature"] for one in drawn] == [None, None, 1.0]
    assert (sampler.ledger.problems, sampler.ledger.fallbacks) == (2, 1)


def test_the_hybrid_solver_of_ocean(monkeypatch):
    from dwave.system import LeapHybridSampler
    from dwave.system.testing import MockLeapHybridSolver

    class Solver(MockLeapHybridSolver):
        def sample_bqm(self, problem, time_limit, label):
            return super().sample_bqm(problem, time_limit)

    def connect(**config):
        leap = LeapHybridSampler.__new__(LeapHybridSampler)
        leap.solver = Solver()
        leap.client = None
        return leap

    monkeypatch.setattr("dwave.system.LeapHybridSampler", connect)
    reads = samplers.resolve("hybrid").sample_arrays(problem(6))
    assert reads.info["minimum_time_limit"] == 1.0 and "fallback" not in reads.info


# --- a real machine ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif("not __import__('os').environ.get('DWAVE_API_TOKEN')", reason="needs an account: DWAVE_API_TOKEN")
def test_a_real_machine(tmp_path):
    sampler = QPU(qpu_budget=0.2, on_failure="raise", cache=tmp_path)
    qubo = problem(8)
    for _ in range(3):
        reads = sampler.sample_arrays(qubo, num_reads=50, temperature=2.0)
    assert reads.info["temperature"] == pytest.approx(2.0, rel=0.5)
    assert 0 < sampler.ledger.qpu_access_time <= 0.2
