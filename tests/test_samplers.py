"""Seats of samplers: each against enumeration, draws at a temperature, and samplers that misbehave."""

import copy
import dataclasses
import json
import threading
import types

import dimod
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qanneal_opt import samplers
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import DimodSeat, SamplerError, Samples, registry, schedules
from qanneal_opt.samplers.exact import all_bits, all_energies
from tests.qubos import problem

LOCAL = ["annealer", "tabu", "greedy", "exact", "dwave-sa", "neal", "dwave-tabu", "sqa"]


class Scripted(dimod.Sampler):
    """Answers each call with what `answer(bqm)` gives, and keeps the arguments of the last."""

    parameters = None
    properties = None

    def __init__(self, answer, parameters=("num_reads",)):
        self.parameters = {name: [] for name in parameters}
        self.answer = answer
        self.arguments = None

    def sample(self, bqm, **arguments):
        self.arguments = arguments
        return self.answer(bqm)


def answering(rows, labels=None, vartype="BINARY", **fields):
    """A sampler that gives `rows`, with energies of 0."""
    rows = np.asarray(rows)
    labels = list(range(rows.shape[1])) if labels is None else labels
    fields = {"energy": np.zeros(len(rows)), **fields}
    return Scripted(lambda bqm: dimod.SampleSet.from_samples((rows, labels), vartype=vartype, **fields))


def rounded(found, energies):
    """Whether energies are equal but for rounding: a product may round otherwise with other rows beside it."""
    return torch.allclose(found, energies, rtol=1e-13, atol=1e-13)


# --- every local sampler ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_each_finds_the_ground_state_of_small_problems(name, n):
    qubo = problem(n, seed=n)
    seat = samplers.resolve(name)
    reads = seat.sample_arrays(qubo, num_reads=12, seed=1)
    assert reads.bits.dtype == torch.uint8
    assert reads.energies.dtype == torch.float64
    assert reads.bits.shape == (len(reads.energies), n)
    assert rounded(reads.energies, qubo.energies(reads.bits))
    assert torch.equal(reads.energies, reads.energies.sort().values)
    assert reads.energies[0].item() == pytest.approx(all_energies(qubo).min())
    assert reads.info["reads_returned"] == len(reads.bits) == (min(12, 2**n) if name == "exact" and n else 12)
    assert reads.info["sampler"] == seat.name
    assert reads.info["temperature"] is None
    json.dumps(reads.info)


@pytest.mark.parametrize("name", LOCAL)
def test_each_is_reproducible_and_leaves_global_generators_alone(name):
    qubo = problem(9, batch=2)
    seat = copy.deepcopy(samplers.resolve(name))
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = seat.sample_arrays(qubo, num_reads=4, seed=2**40, temperature=3.0)
    again = samplers.resolve(name).sample_arrays(qubo, num_reads=4, seed=2**40, temperature=3.0)
    other = seat.sample_arrays(qubo, num_reads=4, temperature=3.0)
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, np.random.get_state(), strict=True))  # noqa: NPY002
    assert torch.equal(first.bits, again.bits)
    clockless = [{k: v for k, v in reads.info.items() if k != "seconds"} for reads in (first, again)]
    assert clockless[0] == clockless[1]
    assert first.info["temperature"] == (3.0 if seat.draws_at_temperature else None)
    assert torch.equal(first.bits, other.bits) != seat.draws_at_temperature or name == "greedy"


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_is_its_problems(name, shared):
    qubo = problem(6, batch=3, shared=shared)
    seat = samplers.resolve(name)
    reads = seat.sample_arrays(qubo, num_reads=5, seed=4)
    assert reads.bits.shape == (3, 5, 6)
    energies = torch.stack([qubo.problem(i).energies(reads.bits[i]) for i in range(3)])
    assert rounded(reads.energies, energies)
    for i in range(3):
        assert reads.energies[i, 0].item() == pytest.approx(all_energies(qubo.problem(i)).min())
    assert torch.equal(reads.bits[0], seat.sample_arrays(qubo.problem(0), num_reads=5, seed=4).bits)
    assert seat.sample_arrays(Qubo(np.zeros((0, 2)), np.zeros((2, 2)))).bits.shape == (0, 1, 2)


def test_initial_states_are_where_they_start_and_never_bettered_by_less():
    qubo = problem(8)
    best = samplers.resolve("exact").sample_arrays(qubo).bits
    starved = samplers.dwave_sa(minimise=2)
    for name in LOCAL:
        seat = starved if name == "dwave-sa" else samplers.resolve(name)
        assert torch.equal(seat.sample_arrays(qubo, seed=0, initial_states=best[0]).bits, best)
    local = torch.tensor([0, 1, 1, 0, 0, 0, 0, 0])
    given_start = Scripted(lambda bqm: dimod.SampleSet.from_samples_bqm({i: 0 for i in range(8)}, bqm))
    given_start.parameters["initial_states"] = []
    reads = DimodSeat(given_start).sample_arrays(qubo, num_reads=2, initial_states=local)
    assert given_start.arguments["initial_states"][0].tolist() == [local.tolist()]
    assert reads.energies.tolist() == sorted([0.5, qubo.energies(local).item()])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"qubo": np.zeros((2, 2))}, TypeError, "Invalid qubo: ndarray"),
        ({"num_reads": 0}, ValueError, "Invalid num_reads: 0"),
        ({"num_reads": 1.5}, TypeError, r"Invalid num_reads: 1\.5"),
        ({"seed": -1}, ValueError, "Invalid seed: -1"),
        ({"seed": "x"}, TypeError, "Invalid seed: 'x'"),
        ({"temperature": 0.0}, ValueError, r"Invalid temperature: 0\.0"),
        ({"temperature": float("nan")}, ValueError, "Invalid temperature: nan"),
        ({"initial_states": [0]}, ValueError, r"Invalid initial_states: shape \(1,\)"),
        ({"initial_states": [2, 0, 0]}, ValueError, "Invalid initial_states: entries"),
        ({"initial_states": np.zeros((2, 3))}, ValueError, "Invalid initial_states: 2 states for 1 reads"),
    ],
)
def test_bad_requests_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        samplers.resolve("exact").sample_arrays(**{"qubo": problem(3), **arguments})


# --- exact --------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(0, 10**6), st.integers(1, 40))
def test_exact_gives_the_best_distinct_states(n, seed, reads):
    qubo = problem(n, seed)
    energies = all_energies(qubo)
    np.testing.assert_allclose(energies, qubo.energies(all_bits(n)), atol=1e-12)
    best = samplers.Exact().sample_arrays(qubo, num_reads=reads)
    np.testing.assert_allclose(best.energies, np.sort(energies)[:reads], atol=1e-12)
    assert len(torch.unique(best.bits, dim=0)) == len(best.bits)


def test_exact_says_where_it_ends():
    with pytest.raises(ValueError, match="Invalid qubo: 21 variables; 'exact' enumerates at most 20"):
        samplers.resolve("exact").sample_arrays(problem(21))
    qubo = problem(20)
    state = samplers.resolve("exact").sample_arrays(qubo).bits[0]
    flips = torch.eye(20, dtype=torch.uint8) ^ state
    assert (qubo.energies(flips) > qubo.energies(state)).all()


def test_exact_at_extreme_temperatures():
    qubo = problem(6)
    exact = samplers.resolve("exact")
    cold = exact.sample_arrays(qubo, num_reads=50, seed=0, temperature=1e-300)
    assert torch.equal(cold.bits, exact.sample_arrays(qubo).bits.expand(50, 6))
    hot = exact.sample_arrays(qubo, num_reads=5000, seed=0, temperature=1e300)
    np.testing.assert_allclose(hot.bits.double().mean(0), 0.5, atol=0.04)


# --- draws at a temperature ---------------------------------------------------------------------------------


def variation(bits, probabilities):
    """Total variation between draws `(R, n)` and the distribution over all states."""
    index = bits.numpy() @ (1 << np.arange(bits.shape[1])[::-1])
    return np.abs(np.bincount(index, minlength=len(probabilities)) / len(bits) - probabilities).sum() / 2


@pytest.mark.parametrize(("name", "reads"), [("exact", 20000), ("annealer", 20000), ("dwave-sa", 20000), ("sqa", 1500)])
@pytest.mark.parametrize("heat", [0.2, 0.6, 3.0])
def test_draws_are_as_near_to_the_boltzmann_distribution_as_exact_ones(name, reads, heat):
    n = 8
    qubo = problem(n, seed=3)
    temperature = heat * float(np.median(schedules.flip_scale(qubo)))
    energies = all_energies(qubo)
    weights = np.exp((energies.min() - energies) / temperature)
    probabilities = weights / weights.sum()
    rng = np.random.default_rng(0)
    ideal = [np.abs(rng.multinomial(reads, probabilities) / reads - probabilities).sum() / 2 for _ in range(200)]
    drawn = samplers.resolve(name).sample_arrays(qubo, num_reads=reads, seed=5, temperature=temperature)
    assert drawn.info["temperature"] == temperature
    assert variation(drawn.bits, probabilities) <= 1.05 * max(ideal)


@pytest.mark.parametrize("name", ["exact", "annealer", "dwave-sa", "sqa"])
def test_bits_that_cost_nothing_are_fair_coins(name):
    """Metropolis updates in turn would flip each of them each time."""
    qubo = Qubo(torch.zeros(3), torch.zeros(3, 3))
    drawn = samplers.resolve(name).sample_arrays(qubo, num_reads=4000, seed=0, temperature=1.0)
    assert variation(drawn.bits, np.full(8, 1 / 8)) < 0.03


def test_more_draws_than_asked_for_are_thinned_at_random_not_to_the_best():
    rows = np.repeat(all_bits(4), 40, axis=0)
    seat = DimodSeat(answering(rows), draws_at_temperature=True, plan=schedules.NoPlan())
    drawn = seat.sample_arrays(problem(4), num_reads=320, seed=0, temperature=1.0)
    assert len(drawn.bits) == 320
    assert variation(drawn.bits, np.full(16, 1 / 16)) < 0.15
    assert torch.equal(
        seat.sample_arrays(problem(4), num_reads=1).bits, samplers.Exact().sample_arrays(problem(4)).bits
    )


# --- what dimod samplers are given and give -----------------------------------------------------------------


def test_any_dimod_sampler_can_take_a_seat():
    qubo = problem(5)
    for sampler in (dimod.ExactSolver(), dimod.RandomSampler()):
        seat = samplers.resolve(sampler)
        assert (seat.name, seat.draws_at_temperature) == (type(sampler).__name__, False)
        assert samplers.resolve(seat) is seat
        reads = seat.sample_arrays(qubo, num_reads=3, temperature=1.0)
        assert reads.bits.shape == (3, 5)
        assert rounded(reads.energies, qubo.energies(reads.bits))
        assert reads.info["temperature"] is None
    best = samplers.resolve(dimod.ExactSolver()).sample_arrays(qubo, num_reads=3)
    assert torch.equal(best.bits, samplers.resolve("exact").sample_arrays(qubo, num_reads=3).bits)


def test_labels_in_any_order_spins_and_occurrences_are_understood():
    qubo = problem(3)
    plain = samplers.resolve(answering([[1, 0, 0], [0, 1, 1]])).sample_arrays(qubo, num_reads=2)
    turned = samplers.resolve(answering([[0, 1, 0], [1, 0, 1]], labels=[2, 0, 1])).sample_arrays(qubo, num_reads=2)
    spins = answering([[1, -1, -1], [-1, 1, 1]], vartype="SPIN")
    assert torch.equal(plain.bits, turned.bits)
    assert torch.equal(plain.bits, samplers.resolve(spins).sample_arrays(qubo, num_reads=2).bits)
    counted = samplers.resolve(answering([[1, 0, 0], [0, 1, 1]], num_occurrences=[1, 10**12]))
    reads = counted.sample_arrays(qubo, num_reads=4)
    assert sorted(reads.bits.sum(1).tolist()) in ([1, 2, 2, 2], [2, 2, 2, 2])
    fewer = samplers.resolve(answering([[1, 0, 0]])).sample_arrays(qubo, num_reads=9)
    assert (len(fewer.bits), fewer.info["reads_returned"]) == (1, 1)


def test_arguments_are_those_that_a_sampler_takes():
    def zeros(bqm):
        return dimod.SampleSet.from_samples_bqm(dict.fromkeys(bqm.variables, 0), bqm)

    qubo = problem(3)
    bare, seeded = Scripted(zeros, ()), Scripted(zeros, ("seed", "num_reads", "temperature", "beta_range"))
    samplers.resolve(bare).sample_arrays(qubo, num_reads=3, seed=1, temperature=2.0)
    assert bare.arguments == {}
    samplers.resolve(seeded).sample_arrays(qubo, num_reads=3, seed=1, temperature=2.0)
    assert seeded.arguments.keys() == {"seed", "num_reads", "temperature"}
    assert 0 <= seeded.arguments["seed"] < 2**31
    assert seeded.arguments["temperature"] == 2.0
    betas = Scripted(zeros, ("beta_range",))
    seat = DimodSeat(betas, options={"extra": 1})
    assert seat.draws_at_temperature
    seat.sample_arrays(qubo, temperature=0.01)
    hot, cold = betas.arguments["beta_range"]
    assert hot < cold == pytest.approx(100)
    assert betas.arguments["extra"] == 1
    seat.sample_arrays(qubo)
    assert betas.arguments["beta_range"][0] == hot
    assert isinstance(schedules.plan_for(samplers.resolve("dwave-sa").sampler), schedules.Annealing)
    assert isinstance(schedules.plan_for(samplers.resolve("sqa").sampler), schedules.PathIntegral)
    assert isinstance(schedules.plan_for(samplers.resolve("dwave-tabu").sampler), schedules.BoundedTabu)


@pytest.mark.parametrize("temperature", [None, 1e-200, 1e-6, 1e6, 1e200])
@pytest.mark.parametrize("name", ["annealer", "dwave-sa", "sqa"])
def test_schedules_stay_finite_at_any_scale(name, temperature):
    for scale in (1e-150, 1.0, 1e100):
        qubo = Qubo([-scale, scale], [[0, scale / 2], [scale / 2, 0]])
        reads = samplers.resolve(name).sample_arrays(qubo, num_reads=2, seed=0, temperature=temperature)
        if temperature is None:
            assert reads.bits.tolist() == [[1, 0]] * 2


def test_sweeps_are_checked():
    with pytest.raises(ValueError, match="Invalid draw: 1; must be at least 2"):
        samplers.dwave_sa(draw=1)
    with pytest.raises(ValueError, match="Invalid moves: 0"):
        samplers.dwave_tabu(moves=0)


# --- samplers that misbehave --------------------------------------------------------------------------------


def raising(bqm):
    raise KeyError("boom")


def pending(bqm):
    return dimod.SampleSet.from_future(None, result_hook=lambda future: raising(bqm))


GARBAGE = [
    (Scripted(raising), "failed: KeyError: 'boom'"),
    (Scripted(pending), "failed: KeyError: 'boom'"),
    (Scripted(lambda bqm: {"a": 1}), "returned a dict, not a dimod.SampleSet"),
    (Scripted(lambda bqm: None), "returned a NoneType"),
    (answering(np.zeros((0, 3))), "returned no sample"),
    (answering([[0, 1]]), r"returned 2 variables \[0, 1\]; must be those of the problem, 0 .. 2"),
    (answering([[0, 1, 0, 1]]), "returned 4 variables"),
    (answering([[0, 1, 0]], labels=["a", "b", "c"]), "must be those of the problem"),
    (answering([[0, 2, 0]]), "the value 2; must be 0 or 1"),
    (answering([[0, -1, 0]]), "the value -1; must be 0 or 1"),
    (answering([[0, 1, -1]], vartype="SPIN"), "spins other than -1 and 1"),
    (answering([[0, 1, 0]], energy=[float("nan")]), "energies that are not finite"),
    (answering([[0, 1, 0]], num_occurrences=[0]), "num_occurrences below 1"),
]


@pytest.mark.parametrize(("sampler", "words"), GARBAGE)
def test_garbage_from_a_dimod_sampler_is_named(sampler, words):
    with pytest.raises(SamplerError, match=f"Sampler 'Scripted' .*{words}"):
        samplers.resolve(sampler).sample_arrays(problem(3))


def test_the_error_of_a_sampler_is_the_cause():
    with pytest.raises(SamplerError) as caught:
        samplers.resolve(Scripted(raising)).sample_arrays(problem(3))
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_sampler_that_hangs_is_given_up():
    forever = threading.Event()
    slow = Scripted(lambda bqm: forever.wait(60))
    with pytest.raises(SamplerError, match=r"'Scripted' gave no answer within 0\.05 s"):
        DimodSeat(slow, deadline=0.05).sample_arrays(problem(3))
    forever.set()
    quick = DimodSeat(dimod.ExactSolver(), deadline=30)
    assert len(quick.sample_arrays(problem(3), num_reads=2).bits) == 2
    with pytest.raises(SamplerError, match="KeyError"):
        DimodSeat(Scripted(raising), deadline=30).sample_arrays(problem(3))
    with pytest.raises(ValueError, match="Invalid deadline: 0"):
        DimodSeat(dimod.ExactSolver(), deadline=0)


# --- objects with sample_arrays -----------------------------------------------------------------------------


@dataclasses.dataclass
class Foreign:
    """Not one of our seats: it knows `sample_arrays` and nothing else."""

    bits: object
    arguments: object = None

    def sample_arrays(self, qubo, **arguments):
        self.arguments = arguments
        energies = torch.zeros(1)  # not to be trusted
        return Samples(self.bits, energies, {"flips": 7})


def test_an_object_with_sample_arrays_can_take_a_seat():
    qubo = problem(3)
    foreign = Foreign([[1, 1, 0], [0, 0, 0]])
    reads = samplers.resolve(foreign).sample_arrays(qubo, num_reads=2, seed=0, temperature=1.0)
    assert foreign.arguments.keys() == {"num_reads", "seed"}
    assert rounded(reads.energies, qubo.energies(reads.bits))
    assert reads.info["flips"] == 7
    foreign.draws_at_temperature = True
    samplers.resolve(foreign).sample_arrays(qubo, num_reads=2, temperature=1.0, initial_states=[0, 0, 1])
    assert foreign.arguments["temperature"] == 1.0
    assert foreign.arguments["initial_states"].tolist() == [[0, 0, 1]]
    batch = problem(3, batch=2)
    reads = samplers.resolve(Foreign(torch.ones(2, 4, 3))).sample_arrays(batch, num_reads=4)
    assert reads.bits.shape == (2, 4, 3)
    assert rounded(reads.energies, batch.energies(reads.bits))


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ([[0, 1]], r"shape \(1, 2\); must be bits of shape \(reads, 3\)"),
        ([0, 1, 1], "must be bits of shape"),
        ([[0, 1, float("nan")]], "the value nan"),
        ([[0, 1, 0.5]], r"the value 0\.5"),
        ([["a", "b", "c"]], "must be bits"),
        ([[1, 2], [3]], "no array of bits"),
        (np.zeros((0, 3)), "no sample"),
        (None, "must be bits"),
    ],
)
def test_garbage_from_such_an_object_is_named(bits, words):
    with pytest.raises(SamplerError, match=f"Sampler 'Foreign' returned .*{words}"):
        samplers.resolve(Foreign(bits)).sample_arrays(problem(3))


def test_a_batch_answered_in_part_is_named():
    with pytest.raises(SamplerError, match="'Foreign' answered 1 of 2 problems"):
        samplers.resolve(Foreign(np.zeros((1, 1, 3)))).sample_arrays(problem(3, batch=2))


# --- names --------------------------------------------------------------------------------------------------


def test_unknown_names_and_wrong_types():
    with pytest.raises(ValueError, match="Invalid sampler: 'foo'; known: annealer, tabu, greedy, exact, dwave-sa"):
        samplers.resolve("foo")
    for wrong in (None, 3, dimod.ExactSolver, Foreign, object()):
        with pytest.raises(TypeError, match=r"Invalid sampler: .*must be a name"):
            samplers.resolve(wrong)
    with pytest.raises(TypeError, match="Invalid sampler: 3"):
        DimodSeat(3)


def test_names_of_the_module_are_lazy_and_listed():
    assert set(dir(samplers)) == set(samplers.__all__)
    assert all(getattr(samplers, name) is not None for name in samplers.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = samplers.nothing


def entry(value):
    return types.SimpleNamespace(name="mine", value="mine:thing", load=lambda: value)


@pytest.mark.parametrize(
    "value",
    [dimod.ExactSolver, dimod.ExactSolver(), lambda: Foreign([[1]]), samplers.Exact, Foreign([[0]])],
)
def test_entry_points_are_names(monkeypatch, value):
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry(value)] * (group == registry.GROUP))
    assert len(samplers.resolve("mine").sample_arrays(problem(1)).bits) == 1
    assert "mine" in str(samplers.available())


@pytest.mark.parametrize(("value", "words"), [(3, "no sampler but 3"), (lambda: 4, "but 4"), (lambda: 1 / 0, "zero")])
def test_entry_points_that_fail_are_named(monkeypatch, value, words):
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry(value)])
    with pytest.raises(SamplerError, match=f"'mine' .mine:thing. .*{words}"):
        samplers.resolve("mine")


def test_the_table_tells_what_is_missing_and_no_secret(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None if "dwave.system" in name else types)
    monkeypatch.setattr(registry, "_missing_configuration", lambda: "an API token")
    rows = {row.name: row for row in samplers.available()}
    assert set(LOCAL) < set(rows)
    assert rows["exact"].installed
    assert rows["exact"].configured
    assert not rows["qpu"].installed
    assert rows["qpu"].install == "pip install qanneal-opt[ocean]"
    assert "an API token" in str(samplers.available())
    with pytest.raises(ImportError, match=r"'qpu' needs dwave.system, .*: pip install qanneal-opt\[ocean\]"):
        samplers.resolve("qpu")
    monkeypatch.undo()
    monkeypatch.setenv("DWAVE_API_TOKEN", "not-to-be-shown")
    table = samplers.available()
    assert {row.name: row for row in table}["hybrid"].configured
    assert "not-to-be-shown" not in str(table) + repr(table)
