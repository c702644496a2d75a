"""QuboStep(asynchronous=True): answers are judged at the weights of the moment, and no sampler holds training up."""

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_checkpoint import saved

import qanneal_opt as qa
from qanneal_opt import judge, samplers
from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.encoding.mask import EncodedMask
from qanneal_opt.samplers import SamplerError, Samples, Seat
from qanneal_opt.samplers.deadline import Call
from qanneal_opt.steps.blocks import Block
from qanneal_opt.steps.evaluators import Evaluators
from qanneal_opt.steps.flight import Flight, Problem
from qanneal_opt.testing import assert_step
from tests.toys import exact, make, net, same, train, weights


class Gated(Seat):
    """The exact sampler behind a gate: it answers once it is open. A `fate` may raise, or give something else."""

    name, draws_at_temperature, parameters = "gated", True, {}

    def __init__(self, fate=lambda call, drawn: drawn, is_open=True):
        self.inner, self.fate, self.calls = samplers.resolve("exact"), fate, 0
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def __deepcopy__(self, memo):
        return self

    def sample_arrays(self, qubo, **arguments):
        self.gate.wait()
        self.calls += 1
        return self.fate(self.calls, self.inner.sample_arrays(qubo, **arguments))


def step_of(sampler="exact", **options):
    options = {"proposals": 6, "variables": 3, "temperature": 0.05, "refit": 2, **options}
    return qa.QuboStep(sampler, asynchronous=True, **options)


def trained(step, steps, encoding=None, seed=0, **options):
    model = net()
    optimizer = make(model, encoding, annealing=step, seed=seed, **options)
    train(model, optimizer, steps)
    return model, optimizer


ENCODINGS = {
    "binary": qa.Levels.binary(),
    "2bit": qa.Levels.uniform(2, scale="tensor"),
    "mask": qa.Mask(0.4),
    "window": qa.Window(2, 0.1),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_answers_are_judged_at_the_next_annealing_step(encoding):
    _, optimizer = trained(step_of(), 8, ENCODINGS[encoding], schedule=qa.Every(2))
    first, *others = optimizer.records
    assert (first.candidates, first.variables, first.accepted) == (0, 0, 0)
    assert first.pending > 0 and not first.fallback
    for record in others:
        assert record.candidates > 0 and record.variables > 0 and record.pending > 0
        assert record.sampler_info["age"] == 2 and record.sampler_info["judged_by"] == "residual"
        assert not record.fallback and record.stale == 0
    assert any(record.accepted for record in others)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_at_zero_temperature_it_is_never_worse_at_the_weights_of_the_moment(encoding):
    model = net()
    optimizer = make(model, ENCODINGS[encoding], annealing=step_of(temperature=0.0, num_reads=4), lr=5e-2)
    optimizer.anneal()  # masks drop weights once
    for step in range(12):
        train(model, optimizer, [step])
        before = float(optimizer.objective())
        record = optimizer.anneal()
        assert record.loss_before == pytest.approx(before, rel=1e-5)
        assert float(optimizer.objective()) <= before + 1e-6
        assert float(optimizer.objective()) == pytest.approx(record.loss_after, rel=1e-5)
    assert sum(record.accepted for record in optimizer.records) > 0


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_it_is_a_step_like_others(temperature):
    assert_step(step_of(temperature=temperature))


@pytest.mark.parametrize("schedule", [qa.Every(5), qa.Every(5, stop=20)])
def test_after_a_lag_answers_are_judged_between_annealing_steps(schedule):
    model, optimizer = trained(step_of(lag=2, temperature=(0.3, 0.1)), 20, schedule=schedule)
    asked, judged = list(optimizer.records)[:-1:2], list(optimizer.records)[1::2]
    assert [record.step for record in asked] == [5, 10, 15, 20][: len(asked)]
    assert [record.step for record in judged] == [7, 12, 17, 20][: len(judged)]  # the last one at the span's end
    assert all(record.pending == 2 and record.candidates == 0 for record in asked)
    assert all(record.pending == 0 and record.candidates == 2 for record in judged)
    assert all(record.sampler_info["age"] == 2 and record.stale == 0 for record in judged[:3])
    assert exact(optimizer, model[0].weight)


def test_steps_take_turns_whatever_is_judged_in_between():
    _, optimizer = trained([step_of(lag=1), Flips()], 12, schedule=qa.Every(2))
    asked = [record for record in optimizer.records if record.step % 2 == 0]
    assert [record.strategy for record in asked] == ["qubo", "flips"] * 3
    assert [record.step for record in optimizer.records if record.candidates] == [3, 7, 11]
    assert not any(record.stale for record in optimizer.records)


def test_equal_seeds_give_equal_weights_whenever_the_answers_come():
    def dawdles(call, drawn):
        time.sleep(0.01 * (call % 3))
        return drawn

    one, two = (trained(step_of(Gated(fate)), 12)[0] for fate in (dawdles, lambda call, drawn: drawn))
    assert same(weights(one), weights(two))


def test_blocking_steps_are_as_they_were():
    """One block: asked and judged in one call, an asynchronous step does what a blocking one does."""
    both = []
    for asynchronous in (False, True):
        model = net()
        step = qa.QuboStep("exact", proposals=4, variables=4, refit=0, temperature=0.0, asynchronous=asynchronous)
        optimizer = make(model, annealing=step)
        optimizer.anneal()
        optimizer.restore_best()
        both.append(weights(model))
    assert same(*both)


# --- What judging takes -----------------------------------------------------------------------------------------


def posed(optimizer, count=4):
    """A problem over `count` moves at the present weights, with its QUBO and the evaluator."""
    view, objective = optimizer._view(), optimizer.objective
    evaluator = Evaluators()(view, objective)
    view.begin(evaluator.value)
    moves = view.propose(evaluator.gradients(), count, 0.0, torch.Generator())
    block = Block(moves)
    qubo = evaluator.qubo(block, "ggn")
    return Problem.of(block, qubo, 0.05, view), qubo


def test_residual_metropolis_with_old_energies_leaves_the_present_distribution_invariant():
    """The QUBO is that of weights which gradient steps have moved since; the chain keeps exp(-f/T) of the present f."""
    temperature, model = 0.05, net()
    optimizer = make(model, lr=5e-2, schedule=qa.Every(100))
    with optimizer.objective.frozen():
        problem, qubo = posed(optimizer)
    before = weights(model)
    train(model, optimizer, 2)
    assert not same(before[:1], weights(model)[:1])  # scales moved, and biases
    bits = torch.tensor(list(itertools.product([0, 1], repeat=4)), dtype=torch.uint8)
    view = optimizer._view()
    with optimizer.objective.frozen():
        evaluator = Evaluators()(view, optimizer.objective)
        evaluator.value()
        block = Problem.of_state(problem.state()).block(view)  # as it comes from a checkpoint
        losses = np.array(evaluator.losses([block.decode(row) for row in bits]))
        for row, loss in zip(bits, losses):  # they are moves of the present weights
            with view.trying(block.decode(row)):
                assert float(optimizer.objective()) == pytest.approx(loss, rel=1e-5)
                assert exact(optimizer, model[0].weight)
    energies = qubo.energies(bits).numpy() - problem.floor
    proposal = np.exp(-(energies - energies.min()) / temperature)
    proposal /= proposal.sum()
    grid = (np.arange(2000) + 0.5) / 2000
    chain = np.zeros((16, 16))
    for now, new in itertools.product(range(16), repeat=2):
        given = {"loss": losses[now], "energy": energies[now], "temperature": temperature}
        taken = np.mean([judge.metropolis([losses[new]], [energies[new]], uniforms=[u], **given) == 0 for u in grid])
        chain[now, new] += proposal[new] * taken
        chain[now, now] += proposal[new] * (1 - taken)
    truth = np.exp(-(losses - losses.min()) / temperature)
    truth /= truth.sum()
    assert np.abs(truth @ chain - truth).max() < 1e-3  # the grid of uniforms resolves acceptances to 1/2000
    assert np.abs(proposal @ chain - proposal).max() > 5e-3


@pytest.mark.parametrize("encoding", ["binary", "2bit", "mask"])
def test_a_problem_is_stale_once_a_code_of_its_weights_changed(encoding):
    optimizer = make(net(), ENCODINGS[encoding])
    with optimizer.objective.frozen():
        problem, _ = posed(optimizer, 3)
        view = optimizer._view()
        assert problem.block(view) is not None
        others = view.sweep(torch.Generator().manual_seed(0))
        mine = set(problem.moves.index.tolist())
        for k in range(len(others)):
            move = others.select(torch.tensor([k]))
            touched = bool(mine & set(move.index.tolist()))
            with view.trying(move):
                assert (problem.block(view) is None) == touched
        assert problem.block(view) is not None


class Flips:
    """A step that gives every weight another code."""

    name = "flips"

    def __call__(self, view, objective, generator):
        view.begin(lambda: float(objective()))
        view.apply(view.sweep(generator))
        return qa.AnnealRecord(view.step, self.name)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_stale_answers_are_dropped_and_counted():
    sampler = Gated(lambda call, drawn: Samples(drawn.bits, drawn.energies, {"qpu_access_time": 0.25}))
    _, optimizer = trained([step_of(sampler), Flips()], 6, schedule=qa.Every(1))
    asked, landed = optimizer.records[0], optimizer.records[2]
    assert landed.stale == asked.pending == 2 and landed.candidates == 0
    assert landed.qpu_access_time == 0.5  # they were paid for
    rows = dict(line.split("  ", 1) for line in optimizer.summary().splitlines())
    assert rows["stale answers dropped"].split() == ["4"]
    assert "1 s of QPU" in rows["whole run"]


def test_answers_older_than_max_age_are_dropped():
    for max_age, stale in ((2, 0), (1, 2)):
        _, optimizer = trained(step_of(max_age=max_age), 4, schedule=qa.Every(2))
        assert [record.stale for record in optimizer.records] == [0, stale]


# --- Waiting, and when it ends ----------------------------------------------------------------------------------


def test_without_wait_an_answer_is_pending_until_it_comes():
    sampler = Gated(is_open=False)
    model, optimizer = trained(step_of(sampler, wait=False), 6, schedule=qa.Every(2))
    assert all(record.candidates == 0 and record.pending == 2 for record in optimizer.records)
    assert not any(record.fallback for record in optimizer.records) and sampler.calls == 0
    sampler.gate.set()
    optimizer._alternation.steps[0]._flight._call._thread.join()
    train(model, optimizer, 1)  # no annealing step is due: it is judged as it has come
    landed = optimizer.records[-1]
    assert landed.step == 7 and landed.candidates == 2 and landed.pending == 0 and landed.sampler_info["age"] == 5
    assert exact(optimizer, model[0].weight) and optimizer.summary().split()[2] == "3"


@pytest.mark.parametrize("wait", [True, False])
def test_a_sampler_that_hangs_is_given_up_after_the_deadline(wait):
    sampler = Gated(is_open=False)
    model, optimizer = trained(step_of(sampler, wait=wait, deadline=0.05), 1, schedule=qa.Every(1))
    time.sleep(0.06)
    train(model, optimizer, 1)
    assert optimizer.records[1].fallback == "Sampler 'gated' gave no answer within 0.05 s"
    assert optimizer.records[-1].pending == 2  # the next ones
    state = json.loads(optimizer.state_dict()["param_groups"][0]["anneal_strategies"][0]["flight"])
    assert all("error" in answer for answer in state["answers"])
    kept = weights(model)
    sampler.gate.set()  # what comes too late moves nothing
    time.sleep(0.05)
    assert same(kept, weights(model)) and sampler.calls <= 2  # nor is the second QUBO of a round asked any more
    optimizer._alternation.steps[0].deadline = 60.0
    train(model, optimizer, 3)
    assert exact(optimizer, model[0].weight) and not optimizer.records[-1].fallback


def raises(call, drawn):
    raise OSError("connection refused")


FATES = {
    "raises": raises,
    "no sample": lambda call, drawn: Samples(drawn.bits[:0], drawn.energies[:0]),
    "few variables": lambda call, drawn: Samples(drawn.bits[:, 1:], drawn.energies),
    "no bits": lambda call, drawn: Samples(drawn.bits + 3, drawn.energies),
    "nothing": lambda call, drawn: None,
}


@pytest.mark.parametrize("fate", FATES)
def test_a_sampler_that_fails_is_recorded_and_harms_nothing(fate):
    class Foreign:
        name, draws_at_temperature = "foreign", True
        behind = Gated(FATES[fate])

        def sample_arrays(self, qubo, **arguments):
            return self.behind.sample_arrays(qubo, **arguments)

    model, optimizer = trained(step_of(Foreign()), 7, schedule=qa.Every(2, stop=6))
    assert [bool(record.fallback) for record in optimizer.records] == [False, True, True, True]
    assert all(record.accepted == 0 for record in optimizer.records)
    assert exact(optimizer, model[0].weight) and all(bool(p.isfinite().all()) for p in model.parameters())


def test_one_failure_leaves_the_other_answers_of_a_round():
    def second_fails(call, drawn):
        if call % 2 == 0:
            raise OSError("connection lost")
        return drawn

    _, optimizer = trained(step_of(Gated(second_fails)), 4, schedule=qa.Every(2))
    assert optimizer.records[1].candidates == 1 and "connection lost" in optimizer.records[1].fallback


def test_a_seat_that_raises_is_recorded_too():
    _, optimizer = trained(step_of(Gated(raises)), 4, schedule=qa.Every(2))
    assert "Sampler 'gated' failed: OSError: connection refused" in optimizer.records[1].fallback


def test_a_gradient_that_is_not_finite_keeps_what_was_judged():
    model, optimizer = trained(step_of(temperature=0.0, num_reads=4), 2, schedule=qa.Every(2))
    objective = optimizer.objective
    gradient, looks = objective.gradient, []

    def bad_once_judged(params):
        looks.append(len(params))
        value, grads = gradient(params)
        return value, [g * float("nan") for g in grads]

    objective.gradient = bad_once_judged
    train(model, optimizer, [2, 3])
    record = optimizer.records[-1]
    assert looks and record.candidates > 0 and "not finite" in record.fallback and record.pending == 0
    assert record.loss_after <= record.loss_before


# --- Where it ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, (0.3, 0.1)])
def test_the_last_answers_are_judged_as_the_span_ends(temperature):
    _, optimizer = trained(step_of(temperature=temperature), 8, schedule=qa.Every(2, stop=8))
    records = list(optimizer.records)
    assert [record.step for record in records] == [2, 4, 6, 8, 8]  # the fifth judges what the fourth asked
    assert records[-1].pending == 0 and records[-1].candidates > 0
    assert sum(record.variables for record in records) == 4 * records[1].variables
    if temperature:
        assert float(optimizer.objective()) <= min(record.loss_after for record in records) + 1e-6


@pytest.mark.parametrize("temperature", [2.0, 0.0])
def test_a_call_of_its_own_ends_at_its_best_and_the_next_one_starts_there(temperature):
    model = net()
    optimizer = make(model, annealing=step_of(temperature=temperature))
    for _ in range(6):
        before = float(optimizer.objective())
        record = optimizer.anneal()
        assert float(optimizer.objective()) <= before + 1e-6
        assert record.stale == 0  # the QUBO is of the weights that were put back
    before = float(optimizer.objective())
    optimizer.restore_best()
    assert float(optimizer.objective()) <= before + 1e-6
    assert optimizer.records[-1].pending == 0 and len(optimizer.records) == 7
    optimizer.restore_best()
    assert len(optimizer.records) == 7


def test_restore_best_in_a_span_judges_first():
    schedule = qa.Every(2, stop=20)
    model, optimizer = trained(step_of(temperature=(0.3, 0.1)), 8, schedule=schedule)
    optimizer.restore_best()
    best = min(record.loss_after for record in optimizer.records)
    assert optimizer.records[-1].pending == 0 and float(optimizer.objective()) <= best + 1e-6
    train(model, optimizer, range(8, 20))
    assert float(optimizer.objective()) <= min(record.loss_after for record in optimizer.records) + 1e-6


SCRIPT = """
import os, sys, threading, torch
sys.path[:0] = sys.argv[3:]
import qanneal_opt as qa
from tests.toys import make, net, train
from test_asynchronous import Gated, step_of

sampler = Gated()
model = net()
optimizer = make(model, annealing=step_of(sampler), schedule=qa.Every(2, stop=8))
train(model, optimizer, 5)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, sys.argv[1])
sampler.gate.clear()
train(model, optimizer, range(5, 7))
assert optimizer.records[-1].pending == 2 and sampler.calls == 4
if sys.argv[2] == "killed":
    os._exit(9)
sys.exit(9)
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_run_that_ends_between_question_and_answer_goes_on_to_the_bit(how, tmp_path):
    """Neither does the thread that waits for the sampler hold up the end of the process."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "last.pt"), how, str(here), str(here.parent)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9

    def build(model):
        return make(model, annealing=step_of(), schedule=qa.Every(2, stop=8))

    state = torch.load(tmp_path / "last.pt")
    model, whole = net(1), net()
    optimizer = build(model)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    train(model, optimizer, range(5, 10))
    train(whole, build(whole), 10)
    assert same(weights(model), weights(whole))


def test_what_was_asked_before_a_checkpoint_is_not_asked_again():
    sampler = Gated()
    model, optimizer = trained(step_of(sampler), 2, schedule=qa.Every(2))
    state = saved(optimizer.state_dict())
    assert sampler.calls == 2
    new, again = net(1), Gated()
    fresh = make(new, annealing=step_of(again), schedule=qa.Every(2))
    new.load_state_dict(model.state_dict())
    fresh.load_state_dict(state)
    fresh.restore_best()
    assert again.calls == 0 and fresh.records[-1].candidates == 2


def test_a_rollback_forgets_what_is_under_way():
    model, optimizer = trained(step_of(), 1, schedule=qa.Every(2))
    state = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    train(model, optimizer, [1])
    assert optimizer._alternation.steps[0].pending == 2
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    assert optimizer._alternation.steps[0].pending == 0


# --- The parts --------------------------------------------------------------------------------------------------


def test_a_flight_without_a_thread_is_what_it_was_saved_from():
    optimizer = make(net(), ENCODINGS["window"])
    view = optimizer._view()
    view.begin(lambda: 1.0)
    moves = view.propose([torch.ones_like(e.param) for e in view.encoded], 2, 0.0, torch.Generator())
    block = Block.of_window(view.encoded[0], moves)
    problem = Problem(moves, view.codes(moves), block.window, -0.5, 0.1)
    drawn = Samples(torch.ones(1, 4, dtype=torch.uint8), torch.zeros(1), {"seconds": 3.0, "told": 1})

    def fails():
        raise SamplerError("no luck")

    flight = Flight.launch([problem, problem], 7, "test", [lambda: drawn, fails])
    again = Flight.load(flight.save(10.0))
    assert again.over(1e9) and again.step == 7 and again.save(1.0) == flight.save(1.0)
    first, second = again.answers(1.0)
    assert first.bits.tolist() == [[1, 1, 1, 1]] and first.info == {"told": 1} and str(second) == "no luck"
    view.encoded[0].radius *= 3  # the old QUBO's bits mean the old displacements
    before = view.present(moves)
    moved = again.problems[0].block(view).decode(first.bits[0])
    torch.testing.assert_close(moved.value - before, torch.full((2,), 0.05))


def test_calls_end_at_their_deadline():
    never = threading.Event()
    call = Call("slow", never.wait)
    assert not call.over(1e9) and call.over(0.0)
    with pytest.raises(SamplerError, match=r"gave no answer within 0\.01 s"):
        call.within(0.01)
    never.set()
    assert call.within(float("inf")) is True and call.over(1e9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"asynchronous": True, "deadline": 0.0}, "deadline: 0.0"),
        ({"asynchronous": True, "max_age": -1}, "max_age: -1"),
        ({"asynchronous": True, "max_age": 1.5}, "max_age: 1.5"),
        ({"asynchronous": True, "lag": 0}, "lag: 0"),
        ({"asynchronous": True, "lag": 3, "wait": False}, "lag: 3"),
        ({"lag": 3}, "asynchronous: False"),
        ({"wait": False}, "asynchronous: False"),
        ({"max_age": 3}, "asynchronous: False"),
        ({"deadline": 5.0}, "asynchronous: False"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match="Invalid " + message):
        qa.QuboStep("exact", **options)


def test_renewed_moves_are_those_of_the_present_weights():
    for encoding in (ENCODINGS["2bit"], ENCODINGS["mask"]):
        model = net()
        optimizer = make(model, encoding)
        view = optimizer._view()
        view.begin(lambda: 1.0)
        (encoded,) = view.encoded
        moves = view.sweep(torch.Generator().manual_seed(0))
        if isinstance(encoded, EncodedLevels):
            encoded.set_scale(encoded.scale * 1.5)
        else:
            assert isinstance(encoded, EncodedMask)
            with torch.no_grad():
                encoded.param.mul_(1.5)
        kept = weights(model)
        again = view.renewed(moves)
        assert same(kept, weights(model))
        assert torch.equal(again.target, moves.target) and not torch.equal(again.displacement, moves.displacement)
        assert torch.equal(view.present(moves) + again.displacement, again.value)
        with view.trying(moves):
            assert torch.equal(view.present(moves), again.value)
