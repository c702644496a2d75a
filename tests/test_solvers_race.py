"""The race of solvers in `benchmarks/solvers`: its instances, its arithmetic, and a tiny race end to end."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks.rows import read
from benchmarks.solvers import __main__ as command
from benchmarks.solvers import instances, peers, race, table, throughput
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import resolve

OURS = [solver for solver in peers.solvers(None)[0] if solver.name in ("annealer", "tabu")]


def test_palubeckis_generator_gives_what_its_recurrence_says():
    qubo = instances.palubeckis(2, 100, 31_000)
    state, draws = 31_000, []
    for _ in range(4):  # C_11; whether there is a C_12, and which; C_22
        state = 16807 * state % (2**31 - 1)
        draws.append(int(state / 2**31 * 201) - 100)
    assert qubo.linear.tolist() == [-draws[0], -draws[3]]
    assert qubo.quadratic[0, 1] == -2 * draws[2]


def test_generators_repeat_and_seeds_differ():
    for make in (lambda seed: instances.palubeckis(30, 50, seed), lambda seed: instances.max_cut(30, 0.2, seed)):
        one, again, other = make(5), make(5), make(6)
        assert torch.equal(one.linear, again.linear)
        assert torch.equal(one.quadratic, again.quadratic)
        assert not torch.equal(one.quadratic, other.quadratic)


def test_density_of_palubeckis_instances():
    qubo = instances.palubeckis(200, 10, 7)
    share = float((qubo.quadratic != 0).double().mean())
    assert 0.085 < share < 0.115
    assert qubo.quadratic.abs().max() <= 200
    assert qubo.linear.abs().max() <= 100


def test_lowest_energies_of_tiny_instances_are_their_best_values():
    qubo = instances.palubeckis(8, 50, 3)
    matrix = -(qubo.quadratic / 2 + torch.diag(qubo.linear)).numpy()
    states = np.array(np.meshgrid(*[[0, 1]] * 8)).reshape(8, -1).T
    best = np.einsum("si,ij,sj->s", states, matrix, states).max()
    assert resolve("exact").sample_arrays(qubo).energies[0] == -best

    complete = instances.max_cut(6, 1.0, 0)  # of the complete graph of 6 nodes at most 9 of 15 edges are cut
    assert resolve("exact").sample_arrays(complete).energies[0] == -9
    assert int((instances.max_cut(20, 0.3, 1).quadratic != 0).sum()) == 2 * round(0.3 * 190)


def test_captured_qubos_are_whole_numbers_and_repeat():
    one, again = (instances.captured(8, 1000, steps=2) for _ in range(2))
    assert one.n == 8
    assert torch.equal(one.quadratic, again.quadratic)
    assert torch.equal(one.linear, one.linear.round())
    assert one.quadratic.any()


def test_time_to_solution():
    assert race.tts(3.0, 0.5) == pytest.approx(3 * math.log(0.01) / math.log(0.5))
    assert race.tts(3.0, 0.999) == race.tts(3.0, 1.0) == 3.0  # one read at least
    assert race.tts(3.0, 0.0) == math.inf
    low, high = race.wilson(15, 30)
    assert low == pytest.approx(0.3315, abs=1e-4)
    assert high == pytest.approx(1 - low)
    assert all(race.wilson(0, reads)[0] == 0.0 and race.wilson(reads, reads)[1] == 1.0 for reads in range(1, 41))


def scripted(name, energies, seconds):
    """A solver that gives the next of its energies."""
    calls = []

    def solve(instance, setting, reads, seed):
        calls.append((setting["k"], seed))
        return [energies[setting["k"]]] * reads, seconds

    return peers.Solver(name, ({"k": 0}, {"k": 1}), 2, solve), calls


def test_calls_take_turns_and_stop_at_the_cap():
    instance = instances.Instance("two", Qubo([-1.0, -1.0], [[0.0, 0.0], [0.0, 0.0]]))
    (cheap, _), (dear, _) = scripted("cheap", [-2.0, -1.0], 0.1), scripted("dear", [-2.0, -1.0], 5.0)
    records = list(race.measure(instance, [(cheap, {"k": 0}), (dear, {"k": 1})], 5, 0, 8.0))
    assert [len(record["energies"]) for record in records] == [5, 2]
    assert [record["read_s"] for record in records] == pytest.approx([0.1, 5.0])


def test_settings_are_chosen_on_tuning_seeds_and_reported_on_others():
    instance = instances.Instance("two", Qubo([-1.0, -1.0], [[0.0, 0.0], [0.0, 0.0]]))
    solver, calls = scripted("s", [-1.0, -2.0], 0.1)
    records = race.race(instance, [solver], reads=4, cap=9.0, tuning_reads=4, tuning_cap=9.0)
    (final,) = [record for record in records if record["phase"] == "report"]
    assert final["setting"] == {"k": 1}
    assert final["goals"] == ["near", "best"]
    assert final["best"] == -2.0
    tuning = {seed for _, seed in calls[:4]}
    assert not tuning & {seed for _, seed in calls[4:]}
    assert {setting for setting, _ in calls[4:]} == {1}


def test_large_instances_are_raced_longer_and_settings_beyond_the_cap_are_left_out():
    small = instances.Instance("small", Qubo(np.zeros(4), np.ones((4, 4)) - np.eye(4)))
    large = instances.Instance("large", Qubo(np.zeros(1500), np.ones((1500, 1500)) - np.eye(1500)))
    assert small.patience == 1
    assert large.patience == 1500 * 1499 / 1e6
    solver, _ = scripted("timed", [0.0], 0.5)
    timed = peers.Solver("timed", ({"k": 0}, {"k": 0, "seconds": 2.0}), 1, solver.solve)

    def raced(instance):
        return race.race(instance, [timed], reads=9, cap=1.0, tuning_reads=9, tuning_cap=0.5)

    assert [len(r["energies"]) for r in raced(small)] == [1, 2]  # a setting, twice: tuning and report
    assert {r["setting"].get("seconds") for r in raced(large)} == {None, 2.0}


def test_our_range_of_temperatures_is_what_another_package_gets(monkeypatch):
    instance, given = instances.Instance("small", instances.palubeckis(10, 60, 2)), []
    monkeypatch.setattr(peers, "of_dimod", lambda make, instance, setting, reads, seed: given.append(setting))
    for names in (("beta_range",), ("beta_min", "beta_max")):
        peers.in_our_range(object, names, instance, {"num_sweeps": 25, "range": "annealer"}, 1, 0)
    one, two = given
    assert one == {"num_sweeps": 25, "beta_range": (two["beta_min"], two["beta_max"])}
    assert 0 < two["beta_min"] < two["beta_max"]


def test_throughput_end_to_end(tmp_path, capsys):
    output = tmp_path / "throughput.jsonl"
    assert throughput.main(["--quick", "--output", str(output)]) == 0
    records = read(output)
    said = capsys.readouterr().out
    assert said.strip() == throughput.table(records)
    assert {record["of"] for record in records} >= {"annealer", "additions alone", "dwave-sa", "minimising"}
    assert all(record.get("bytes_s", record.get("problem_s")) > 0 for record in records)
    energies = {record["of"]: record["energy"] for record in records if "energy" in record}
    assert max(energies.values()) < 0.8 * min(energies.values()) < 0  # the same problems, all of them solved


def test_a_published_energy_that_nobody_reached_is_the_goal():
    instance = instances.Instance("two", Qubo([-1.0, -1.0], [[0.0, 0.0], [0.0, 0.0]]), published=-3.0)
    solver, _ = scripted("s", [-1.0, -2.0], 0.1)
    records = race.race(instance, [solver], reads=4, cap=9.0, tuning_reads=2, tuning_cap=9.0)
    assert {record["best"] for record in records} == {-3.0}
    assert "inf" in table.tables(records)


def test_a_tiny_race_of_our_solvers_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers, "solvers", lambda path: (OURS, ["nobody: left out"]))
    monkeypatch.setattr(instances, "INSTANCES", {"tiny": (lambda: instances.palubeckis(12, 50, 1), None)})
    output = tmp_path / "tiny.jsonl"
    arguments = ["--instances", "tiny", "--reads", "6", "--output", str(output)]
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert "nobody: left out" in said
    records = [json.loads(line) for line in output.read_text().splitlines()]
    best = float(resolve("exact").sample_arrays(instances.palubeckis(12, 50, 1)).energies[0])
    assert {record["best"] for record in records} == {best}
    final = [record for record in records if record["phase"] == "report"]
    assert {record["solver"] for record in final} == {"annealer", "tabu"}
    assert all(race.hits(record, best) >= 4 for record in final)  # a quick setting was chosen, which may miss
    assert "| tiny | tabu |" in said
    assert output.with_suffix(".png").stat().st_size > 1000
    assert command.main(arguments) == 0  # takes the place of its own earlier lines
    assert len(output.read_text().splitlines()) == len(records)


def test_what_dwave_samplers_find_is_read_in_the_order_of_the_variables():
    instance = instances.Instance("small", instances.palubeckis(10, 60, 2))
    best = float(resolve("exact").sample_arrays(instance.qubo).energies[0])
    for solver in peers.solvers(None)[0]:
        if solver.name.startswith("dwave"):
            energies, seconds = solver.solve(instance, solver.ladder[-1], 2, 1)
            assert min(energies) == best, solver.name
            assert seconds > 0
