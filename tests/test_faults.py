"""Machines far away that fail: training goes on, weights stay legal, and what happened is in the ledger."""

import copy
import json
import logging
import math
import multiprocessing
import os
import re
import signal
import time
import traceback
import types
import warnings

import dimod
import pytest
import torch

import qanneal_opt as qa
from qanneal_opt.samplers import QPU, RemoteError
from tests.machines import (
    TOKEN,
    Faulty,
    HTTPError,
    PollingTimeout,
    SolverOfflineError,
    Switching,
    broken,
    empty,
    fewer,
    hang,
    legal,
    network,
    not_finite,
    seat,
)
from tests.qubos import problem


def finished(sampler, **options):
    """Train; give the optimizer, whose weights are legal."""
    model, optimizer, train = network(sampler, **options)
    train()
    assert legal(model, optimizer)
    assert len(optimizer.records) == 4
    assert all(not record.fallback for record in optimizer.records)
    json.dumps([record.sampler_info for record in optimizer.records])
    return optimizer


PASSING = [
    (ConnectionRefusedError("refused"), 0),
    (PollingTimeout(), 1),
    (HTTPError(429), 0),
    (HTTPError(500), 0),
    (empty, 0),
    (fewer, 0),
    (not_finite, 0),
]


@pytest.mark.parametrize(("fault", "unanswered"), PASSING)
def test_what_passes_is_tried_again(tmp_path, fault, unanswered):
    machine = Faulty(fault)
    sampler = seat(machine, tmp_path)
    finished(sampler)
    ledger = sampler.ledger
    assert (ledger.retries, ledger.fallbacks, ledger.unanswered) == (1, 0, unanswered)
    assert machine.calls == ledger.submissions == 5
    assert ledger.calls == ledger.problems == 4


@pytest.mark.parametrize("fault", [fault for fault, _ in PASSING])
def test_what_does_not_pass_is_left_to_the_local_sampler(tmp_path, fault):
    sampler = seat(Faulty(always=fault), tmp_path, retries=2)
    with pytest.warns(RuntimeWarning, match="'annealer' samples in its place") as told:
        optimizer = finished(sampler)
    assert len([one for one in told if one.category is RuntimeWarning]) == 1  # said once
    assert (sampler.ledger.fallbacks, sampler.ledger.retries, sampler.ledger.problems) == (4, 8, 0)
    info = optimizer.records[-1].sampler_info
    assert info["fallback"] and info["answered_by"] == "annealer"
    assert info["judged_by"] == "residual"  # the annealer draws at the temperature asked for


class Halved(list):
    """The record of an answer whose rows are shorter than it says."""

    def __init__(self, record):
        super().__init__(record)
        self.sample, self.energy, self.num_occurrences = record.sample[:, :2], record.energy, record.num_occurrences


def test_an_answer_that_is_not_what_it_says_raises_nothing(tmp_path):
    def halved(answer):
        given = {"variables": answer.variables, "info": answer.info, "record": Halved(answer.record)}
        return types.SimpleNamespace(**given, resolve=lambda: None)

    sampler = seat(Faulty(always=halved), tmp_path, retries=0)
    with pytest.warns(RuntimeWarning, match="IndexError.*'annealer' samples in its place"):
        finished(sampler)
    assert sampler.ledger.fallbacks == 4 and sampler.ledger.charged > 0


@pytest.mark.parametrize("time", [math.nan, math.inf, -1e9, "soon", None])
def test_a_time_that_is_none_is_charged_at_its_estimate(tmp_path, time):
    """A negative one would give the budget back, and one that is NaN would end it."""

    def tells(answer):
        answer.info["timing"] = time if time is None else {"qpu_access_time": time}
        return answer

    sampler = seat(Faulty(always=tells), tmp_path, qpu_budget=1.0)
    finished(sampler)
    assert (sampler.ledger.problems, sampler.ledger.fallbacks, sampler.ledger.qpu_access_time) == (4, 0, 0.0)
    assert sampler.ledger.charged == pytest.approx(4 * 0.01014)


@pytest.mark.parametrize("name", ["properties", "parameters", "edgelist", "to_networkx_graph"])
@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyError("topology")])
def test_a_machine_that_cannot_be_looked_at_raises_nothing(tmp_path, name, error):
    class Dark(Faulty):
        def __getattr__(self, asked):
            if asked == name:
                raise error
            return super().__getattr__(asked)

    sampler = seat(Dark(), tmp_path, retries=1)
    with pytest.warns(RuntimeWarning, match="'annealer' samples in its place"):
        finished(sampler)
    assert (sampler.ledger.fallbacks, sampler.ledger.submissions) == (4, 0)


def test_a_submission_that_was_interrupted_is_charged(tmp_path):
    """The machine goes on with it, whatever happens here."""
    sampler = seat(Faulty(KeyboardInterrupt()), tmp_path)
    model, optimizer, train = network(sampler)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert (sampler.ledger.submissions, sampler.ledger.unanswered) == (1, 1)
    assert sampler.ledger.charged == pytest.approx(0.01014)
    train(3)
    assert legal(model, optimizer) and sampler.ledger.problems == 3


def test_a_hang_ends_at_the_deadline_and_is_charged(tmp_path):
    sampler = seat(Faulty(hang), tmp_path, deadline=0.5)
    begun = time.monotonic()
    with pytest.warns(RuntimeWarning, match=r"gave no answer within"):
        finished(sampler)
    assert time.monotonic() - begun < 15
    ledger = sampler.ledger
    assert (ledger.unanswered, ledger.fallbacks, ledger.problems) == (1, 1, 3)
    assert ledger.charged > ledger.qpu_access_time > 0


def test_a_machine_that_failed_is_left_alone_for_a_while(tmp_path):
    machine = Faulty(always=ConnectionRefusedError("refused"))
    sampler = seat(machine, tmp_path, retries=1, rest=1000.0)
    with pytest.warns(RuntimeWarning):
        finished(sampler)
    assert (machine.calls, sampler.ledger.fallbacks) == (2, 4)
    bad = Faulty(always=HTTPError(401))
    sampler = seat(bad, tmp_path, retries=5, rest=0.01)
    with pytest.warns(RuntimeWarning):
        finished(sampler)
    assert bad.calls == 1  # an invalid token does not pass


def test_a_solver_that_goes_offline_is_replaced_with_a_new_embedding(tmp_path):
    machine = Switching(None, SolverOfflineError("offline"))
    sampler = seat(machine, tmp_path)
    finished(sampler)
    assert (machine.failovers, sampler.ledger.failovers, sampler.ledger.fallbacks) == (1, 1, 0)
    assert len(list((tmp_path / "embeddings-v1").iterdir())) == 2  # of two graphs
    assert not {0, 5, 9} & set(machine.submitted[-1][0].variables)
    again = Faulty(SolverOfflineError("offline"))  # without a failover of its own
    sampler = seat(lambda: again, tmp_path)
    finished(sampler)
    assert sampler.ledger.failovers == 1


def test_chains_broken_everywhere_are_judged_like_anything_else_and_made_stronger(tmp_path):
    sampler = seat(Faulty(always=broken), tmp_path)
    optimizer = finished(sampler)
    assert sampler.ledger.fallbacks == 0
    assert max(record.sampler_info["chain_breaks"] for record in optimizer.records) == 1.0
    assert sampler.ledger.broken > 0.5 * sampler.ledger.chains
    assert sampler.tuning.of("MockDWaveSampler").prefactor > 2 * 1.414


def test_a_budget_that_is_used_up_is_said_once_and_training_goes_on(tmp_path):
    machine = Faulty()
    for on_failure in ("fallback", "raise"):
        sampler = seat(machine, tmp_path, qpu_budget=0.025, on_failure=on_failure)
        with pytest.warns(RuntimeWarning, match=r"has used 0\.0202 s of its budget of 0\.025 s") as told:
            finished(sampler)
        assert len(told) == 1
        ledger = sampler.ledger
        assert (ledger.problems, ledger.fallbacks) == (2, 2)
        assert ledger.charged <= 0.025
    assert machine.calls == 4


def test_a_budget_and_a_ledger_survive_a_resume(tmp_path):
    sampler = seat(Faulty(), tmp_path, qpu_budget=0.025)
    _, optimizer, train = network(sampler)
    train(2)
    path = tmp_path / "checkpoint.pt"
    torch.save(optimizer.state_dict(), path)
    other = seat(Faulty(), tmp_path, qpu_budget=0.025)
    model, resumed, train = network(other)
    resumed.load_state_dict(torch.load(path, weights_only=True))
    assert other.ledger == sampler.ledger
    assert other.tuning.state_dict() == sampler.tuning.state_dict()
    assert "2 calls" in resumed.summary()
    with pytest.warns(RuntimeWarning, match="budget"):
        train(2)
    assert other.ledger.problems == 2 and legal(model, resumed)


@pytest.mark.parametrize("temperature", [None, 50.0])
@pytest.mark.parametrize("end", ["budget", "fault"])
def test_answers_that_were_paid_for_are_kept_where_those_beside_them_fail(tmp_path, temperature, end):
    """Of five problems two fit in a submission: the third submission, of one, fails."""
    faults = (None, None, HTTPError(500)) if end == "fault" else ()
    sampler = seat(Faulty(*faults), tmp_path, retries=0, qpu_budget=None if faults else 0.025)
    qubo = problem(16, batch=5)
    assert len(sampler.machine.placements(16, 5)) == 2
    start = torch.zeros(5, 1, 16, dtype=torch.uint8)
    with pytest.warns(RuntimeWarning, match="budget of" if end == "budget" else "HTTPError: 500") as told:
        reads = sampler.sample_arrays(qubo, num_reads=3, seed=0, temperature=temperature, initial_states=start)
    assert len(told) == 1 and reads.bits.shape == (5, 3, 16)
    torch.testing.assert_close(reads.energies, qubo.energies(reads.bits))
    assert [one.get("answered_by") for one in reads.info["problems"]] == [None] * 4 + ["annealer"]
    assert (sampler.ledger.calls, sampler.ledger.problems, sampler.ledger.fallbacks) == (1, 4, 1)
    if temperature is not None:
        assert reads.info["temperature"][4] == temperature != reads.info["temperature"][0]
    failing = seat(Faulty(None, HTTPError(500)), tmp_path, retries=0, on_failure="raise")
    with pytest.raises(RemoteError, match="HTTPError: 500"):
        failing.sample_arrays(qubo)


def test_a_step_back_to_an_earlier_checkpoint_refunds_nothing(tmp_path):
    sampler = seat(Faulty(), tmp_path, qpu_budget=0.045)
    _, optimizer, train = network(sampler, calls=8)
    train(2)
    state = copy.deepcopy(optimizer.state_dict())
    train(2)
    optimizer.load_state_dict(state)
    assert sampler.ledger.charged == pytest.approx(0.04044, rel=1e-3) and sampler.ledger.problems == 4
    with pytest.warns(RuntimeWarning, match="budget"):
        train(2)
    assert sampler.ledger.problems == 4


def test_a_summary_has_the_ledger_of_each_machine_once(tmp_path):
    one, other = seat(Faulty(), tmp_path), seat(Faulty(), tmp_path)
    _, optimizer, train = network(one, calls=8)
    optimizer._alternation.steps += [qa.QuboStep(other, proposals=8), qa.QuboStep(one, proposals=8)]
    train(6)
    lines = [line.split("  ") for line in optimizer.summary().splitlines() if line.startswith("ledger")]
    calls = {line[0]: line[-1].split(",")[0].strip() for line in lines if "calls" in line[-1]}
    assert calls == {"ledger of qpu": "4 calls", "ledger of qpu 2": "2 calls"}


def test_errors_are_raised_where_the_user_asks_for_it(tmp_path):
    sampler = seat(Faulty(always=HTTPError(500)), tmp_path, on_failure="raise")
    _, _, train = network(sampler)
    with pytest.raises(RemoteError, match="HTTPError: 500"):
        train()


@pytest.mark.parametrize("wait", [True, False])
def test_they_are_raised_out_of_a_later_step_where_it_is_asynchronous(tmp_path, wait):
    sampler = seat(Faulty(None, HTTPError(400), None), tmp_path, on_failure="raise", retries=0)
    model, optimizer, train = network(sampler, calls=100, asynchronous=True, wait=wait)
    with pytest.raises(RemoteError, match="HTTPError: 400"):
        for _ in range(100):
            train(1)
            time.sleep(0.05)
            state = optimizer.state_dict()  # a checkpoint holds the error, and does not raise it
    assert legal(model, optimizer) and optimizer._alternation.steps[0].pending == 0
    train(2)  # and one may go on
    optimizer.restore_best()
    assert sampler.ledger.problems > 1
    _, resumed, train = network(seat(Faulty(), tmp_path, on_failure="raise"), calls=100, asynchronous=True, wait=wait)
    resumed.load_state_dict(state)
    train(1)
    assert "HTTPError: 400" in resumed.records[0].fallback


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', "\x00\x01"])
def test_a_damaged_cache_file_is_made_anew(tmp_path, text):
    finished(seat(Faulty(), tmp_path))
    paths = list(tmp_path.rglob("clique-*.json"))
    kept = {path: path.read_text() for path in paths}
    for path in paths:
        path.write_text(text)
    finished(seat(Faulty(), tmp_path))
    assert {path: path.read_text() for path in paths} == kept


@pytest.mark.parametrize("qubit", ["1e999", "1" + 30 * "0", "1" + 13 * "0", "-1000000", "NaN", 6000 * "9", 9999 * "["])
def test_a_qubit_that_is_none_is_found_out(tmp_path, qubit):
    """One of 10^13 asked for 73 TB, one of a problem of a single variable reached the machine."""
    for n in (1, 5):
        seat(Faulty(), tmp_path).sample_arrays(problem(n))
        (path,) = tmp_path.rglob(f"clique-{n}.json")
        kept = path.read_text()
        head, bracket, rest = kept.partition("[[[")
        path.write_text(head + bracket + qubit + rest[re.match(r"\d+", rest).end() :])
        sampler = seat(Faulty(), tmp_path, on_failure="raise")
        assert sampler.sample_arrays(problem(n)).info["variables"] == n
        assert path.read_text() == kept


def test_an_embedding_of_another_graph_under_this_ones_name_is_found_out(tmp_path):
    finished(seat(Faulty(), tmp_path))
    for path in tmp_path.rglob("clique-*.json"):
        kept = json.loads(path.read_text())
        chains = kept["cliques"][0]
        chains[0], chains[1] = [chains[0][0], 10_000], chains[1]
        path.write_text(json.dumps(kept))
    sampler = seat(Faulty(), tmp_path)
    finished(sampler)
    assert sampler.ledger.fallbacks == 0


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    finished(seat(Faulty(), tmp_path / "file"))


def _run_and_die(folder):
    """Save after two steps, and be killed between the third submission and its answer."""

    def die(answer):
        os.kill(os.getpid(), signal.SIGKILL)

    _, optimizer, train = network(seat(Faulty(None, None, die), folder))
    train(2)
    torch.save(optimizer.state_dict(), folder / "checkpoint.pt")
    train(1)


def test_a_process_killed_between_submission_and_answer_goes_on_from_its_checkpoint(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_run_and_die, args=(tmp_path,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    sampler = seat(Faulty(), tmp_path)
    model, optimizer, train = network(sampler)
    optimizer.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    train(2)
    assert legal(model, optimizer)
    assert (sampler.ledger.calls, sampler.ledger.problems, sampler.ledger.fallbacks) == (4, 4, 0)


# --- tokens -------------------------------------------------------------------------------------------------------


def test_a_token_is_in_nothing_that_a_run_writes(tmp_path, monkeypatch, capfd, caplog, recwarn):
    caplog.set_level(0)
    monkeypatch.setenv("DWAVE_API_TOKEN", TOKEN)
    faults = [HTTPError(429), OSError(f"bad header X-Auth-Token: {TOKEN}"), None, ValueError(TOKEN)]
    sampler = seat(Faulty(*faults, always=HTTPError(500)), tmp_path / "cache", retries=2)
    _, optimizer, train = network(sampler)
    train()
    torch.save(optimizer.state_dict(), tmp_path / "checkpoint.pt")
    print(optimizer.summary(), optimizer.records, sampler.state_dict(), vars(sampler), repr(sampler))
    failing = seat(Faulty(always=HTTPError(500)), tmp_path / "cache", on_failure="raise")
    with pytest.raises(RemoteError) as caught:
        network(failing)[2]()
    print("".join(traceback.format_exception(caught.value)))
    seen = [str(warning.message) for warning in recwarn] + [caplog.text, *capfd.readouterr()]
    error = caught.value
    while error is not None:
        seen.append(repr(error))
        error = error.__cause__ or error.__context__
    assert sampler.ledger.fallbacks and any("***" in text for text in seen)
    assert not any(TOKEN in text for text in seen)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_a_token_in_a_configuration_file_is_known_too(tmp_path, monkeypatch):
    from dwave.cloud import config

    from qanneal_opt.samplers.tokens import scrubbed

    path = tmp_path / "dwave.conf"
    path.write_text(f"[defaults]\nregion = eu\n[mine]\ntoken = {TOKEN}\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(path))
    assert scrubbed(f"a {TOKEN}\n b") == "a *** b"
    assert config.load_config(profile="mine")["token"] == TOKEN


@pytest.mark.parametrize("remote", [True, False])
def test_a_token_that_is_nowhere_configured_is_known_by_its_name_and_form(tmp_path, monkeypatch, remote):
    """The user's own function had it, or the sampler is one of Ocean's composites, which take any problem."""
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "none.conf"))
    error = OSError(f"header {{'X-Auth-Token': 'abc{TOKEN}'}} and DEV-{'0123456789abcdef' * 3}.")

    class Composite(dimod.Sampler):
        properties, parameters = {}, {}

        def sample(self, bqm, **parameters):
            raise error

    def unreachable():
        raise error

    sampler = QPU(unreachable, cache=tmp_path, retries=0) if remote else Composite()
    _, optimizer, train = network(sampler)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train()
    texts = [str(warning.message) for warning in told] + [str(optimizer.records), optimizer.summary()]
    assert any("'X-Auth-Token': '***'} and ***." in text for text in texts)
    assert not any(TOKEN in text or "0123456789abcdef" in text for text in texts)


def test_a_token_is_not_in_what_ocean_logs(tmp_path, monkeypatch, caplog):
    """At level DEBUG its client logs the whole configuration, and at a lower one so does reading it."""
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "dwave.conf"))
    (tmp_path / "dwave.conf").write_text(f"[defaults]\ntoken = {TOKEN}\n")
    caplog.set_level(0)
    caplog.set_level(0, logger="dwave.cloud")

    def connect():
        from dwave.cloud import Client

        with pytest.raises(Exception) as failed:
            Client.from_config(endpoint="ftp://nowhere", retry=0).get_solver()
        logging.getLogger("dwave.cloud.client.base").debug("given %r", [TOKEN], exc_info=failed.value)
        raise ConnectionRefusedError

    assert [row.configured for row in qa.samplers.available() if row.name == "qpu"] == [True]
    with pytest.warns(RuntimeWarning):
        QPU(connect, cache=tmp_path, retries=0).sample_arrays(problem(4))
    assert "Config loaded" in caplog.text and TOKEN not in caplog.text


def test_a_token_is_not_taken_as_an_argument():
    for make in (qa.samplers.QPU, qa.samplers.Hybrid):
        with pytest.raises(ValueError, match="Invalid config: a token") as caught:
            make(config={"token": TOKEN})
        assert TOKEN not in str(caught.value)
