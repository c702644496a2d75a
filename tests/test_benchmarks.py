"""The harness, the report and the baselines of `benchmarks/`, on small cases."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import harness, report
from benchmarks.tuning import Round, search
from qanneal_opt.demo import patterns
from qanneal_opt.demo.baselines import belief_propagation, binary_mlp, binary_perceptron, straight_through
from qanneal_opt.demo.data import digits, random_patterns

CALLS: list[tuple[str, int]] = []


def _contender(name: str, gain: float):
    def run(seed: int) -> dict[str, object]:
        CALLS.append((name, seed))
        return {
            "solved": seed % 2 == 0,
            "loss": gain * (1 + seed),
            "metric": 0.5 + 0.01 * seed / gain,
            "ge": 3.0,
        }

    return run


@pytest.fixture
def dummy() -> harness.Task:
    CALLS.clear()
    module = ModuleType("dummy", "A task that costs nothing.\n\nMore.")
    module.NAME, module.BASELINE, module.TUNING_SEEDS = "dummy", "plain", range(1000, 1003)
    module.CONTENDERS = {
        "plain": _contender("plain", 2.0),
        "ours": _contender("ours", 1.0),
        "third": _contender("t", 4.0),
    }
    return harness.Task.of(module)


@pytest.fixture
def records(dummy: harness.Task) -> list[dict[str, object]]:
    return list(harness.run(dummy, ["ours", "plain"], range(4)))


def test_every_run_is_a_record_with_its_cost_and_origin(records):
    assert len(records) == 8
    for record in json.loads(json.dumps(records)):
        assert {
            "task",
            "contender",
            "seed",
            "solved",
            "loss",
            "metric",
            "ge",
            "cpu_s",
            "wall_s",
        } <= record.keys()
        assert {"commit", "cpus", "versions", "baseline", "metric_name"} <= record.keys()
        assert {"python", "torch", "numpy", "numba"} <= record["versions"].keys()
        assert record["cpu_s"] >= 0 and record["wall_s"] >= 0


def test_contenders_warm_up_on_a_tuning_seed_then_take_turns(dummy):
    list(harness.run(dummy, ["plain", "ours", "third"], [5, 6, 7]))
    assert CALLS[:3] == [("plain", 1000), ("ours", 1000), ("t", 1000)]
    assert [name for name, _ in CALLS[3:]] == [
        "plain",
        "ours",
        "t",
        "ours",
        "t",
        "plain",
        "t",
        "plain",
        "ours",
    ]
    assert [seed for _, seed in CALLS[3:]] == [5, 5, 5, 6, 6, 6, 7, 7, 7]


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_use_one_thread_and_give_the_others_back(dummy, threads):
    seen = []
    dummy.contenders["plain"] = lambda seed: seen.append(torch.get_num_threads()) or _contender("plain", 1.0)(seed)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        list(harness.run(dummy, ["plain"], [0]))
        assert seen == [1, 1] and torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_contender_that_leaves_out_a_number_is_an_error(dummy):
    dummy.contenders["plain"] = lambda seed: {"loss": 0.0}
    with pytest.raises(TypeError, match="solved, metric, ge"):
        harness.measure(dummy.contenders["plain"], 0)


def test_report_agrees_with_a_computation_by_hand(records):
    for record in records:
        record["cpu_s"] = 0.5 if record["contender"] == "ours" else 0.25
    table = report.tables(records)
    plain, ours = (line.split(" | ") for line in table.splitlines() if line.startswith(("| plain", "| ours")))
    # ours: losses 1 2 3 4, mean 2.5, sd 1.291, t(3) = 3.182: half width 2.05; plain twice that.
    assert ours[1:4] == ["2/4", "2.5 ± 2.05", "0.5 (0.125)"]  # all four signs agree: p = 2 / 2**4
    assert plain[2] == "5 ± 4.11" and plain[3].strip() == ""
    assert ours[4].startswith("0.515") and ours[5] == "+0.0075 (0.25)"  # the difference at seed 0 is none
    assert ours[6:] == ["0.5", "2", "3 |"]
    assert table.index("| plain") < table.index("| ours")  # the baseline comes first
    assert "dummy" in table and "baseline: plain" in table


def test_paired_tests():
    test = report.paired([1.0, 2.0, 4.0], [2.0, 4.0, 3.0])
    differences = np.array([-1.0, -2.0, 1.0])
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(3))
    assert test.difference == pytest.approx(-2 / 3) and test.ratio == pytest.approx(7 / 9)
    # Two degrees of freedom: P(|T| > t) = 1 - t / sqrt(t^2 + 2).
    assert test.t_test == pytest.approx(1 - abs(t) / math.sqrt(t * t + 2))
    assert report.paired([0.0, 0.0], [0.0, 0.0]).wilcoxon == 1.0
    assert math.isnan(report.paired([1.0, 1.0], [0.0, 0.0]).ratio)


def test_run_report_and_compare_from_the_command(dummy, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "load", lambda name: dummy)
    monkeypatch.setattr(harness, "task_names", lambda: ["dummy"])
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    file, readme = tmp_path / "dummy.jsonl", tmp_path / "README.md"
    arguments = [
        "run",
        "dummy",
        "--contender",
        "plain",
        "ours",
        "--seeds",
        "0:3",
        "--json",
        "--output",
        str(file),
    ]
    assert command.main(arguments) == 0
    assert capsys.readouterr().out == file.read_text() and len(file.read_text().splitlines()) == 6
    (tmp_path / "tuning_dummy.jsonl").write_text("not a record of a run\n")
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert command.main(["report", "--check", "--readme", str(readme)]) == 1
    assert command.main(["report", "--readme", str(readme)]) == 0
    assert command.main(["report", "--check", "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "| ours |" in text and "old" not in text
    capsys.readouterr()
    assert command.main(["compare", str(file), str(file)]) == 0
    assert "| dummy | ours | loss | 3 | 2 ± 2.48 | 2 ± 2.48 | 1 | 1 | 1 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["run", "no_such_task"], "Invalid task: 'no_such_task'; known tasks: "),
        (["run", "perceptron", "--contender", "nobody"], "Invalid contender: 'nobody'"),
        (["run", "perceptron", "--seeds", "5:1"], "Invalid seeds: '5:1'"),
        (["run", "perceptron", "--seeds", "a"], "Invalid seeds: 'a'"),
        (["report", "no/such.jsonl"], "Invalid result file: no/such.jsonl"),
        (["run"], "required: task"),
        (["launch"], "invalid choice: 'launch'"),
    ],
)
def test_bad_input_is_status_2_and_one_line(arguments, words, capsys):
    try:
        status = command.main(arguments)
    except SystemExit as exit:
        status = exit.code
    error = capsys.readouterr().err
    assert status == 2 and words in error and error.count("\n") == 1


def test_bad_files_name_the_line(tmp_path: Path):
    file = tmp_path / "broken.jsonl"
    file.write_text('{"task": "a", "contender": "b", "seed": 0, "loss": 1}\n{\n')
    with pytest.raises(harness.BadInput, match="line 2 is no record"):
        report.read([file])
    with pytest.raises(harness.BadInput, match="needs one"):
        report.insert("no markers", "table")
    with pytest.raises(harness.BadInput, match="two records"):
        report.by_seed([{"task": "a", "contender": "b", "seed": 0}] * 2)


def test_list_as_a_process_names_every_task_and_its_baseline():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "list"],
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in harness.task_names():
        assert f"{name}: " in done.stdout
    assert "straight_through" in done.stdout


@pytest.mark.parametrize("name", harness.task_names())
def test_every_task_is_well_formed(name):
    task = harness.load(name)
    assert task.name == name and task.summary and task.baseline in task.contenders
    assert not set(task.tuning_seeds) & set(range(20))


def test_data_depend_on_the_seed_alone_and_test_rows_are_unseen():
    first, again, other = digits(3), digits(3), digits(4)
    assert np.array_equal(first.train_inputs, again.train_inputs)
    assert not np.array_equal(first.train_targets, other.train_targets)
    assert len(first.train_inputs) + len(first.test_inputs) == 1797
    train = {row.tobytes() for row in first.train_inputs}
    assert len(train) == len(first.train_inputs)  # no image is there twice, so this comparison sees an overlap
    assert not train & {row.tobytes() for row in first.test_inputs}
    assert np.isfinite(first.train_inputs).all() and np.abs(first.train_inputs.mean(0)).max() < 1e-5
    assert set(np.round(first.train_inputs.std(0), 3)) == {0.0, 1.0}
    patterns, labels = random_patterns(1, 51, 0.6)
    assert patterns.shape == (31, 51) and set(np.unique(patterns)) == {-1.0, 1.0} == set(np.unique(labels))
    assert np.array_equal(patterns, random_patterns(1, 51, 0.6)[0])


@pytest.mark.parametrize("chain", [False, True])
def test_straight_through_gradients_are_those_of_torch(chain):
    rng = np.random.default_rng(0)
    sizes = [5, 4, 3, 6]
    latents, biases = straight_through.initial(sizes, rng)
    inputs = rng.standard_normal((7, 5)).astype(np.float32)
    targets = straight_through.smoothed(rng.integers(0, 6, 7), 6, 0.1)
    weights, gradients = (tuple(np.zeros_like(latent) for latent in latents) for _ in range(2))
    bias_gradients = tuple(np.zeros_like(bias) for bias in biases)
    activations = (inputs, *(np.zeros((7, size), np.float32) for size in sizes[1:]))
    deltas = activations[1:] and tuple(np.zeros((7, size), np.float32) for size in sizes[1:])
    binary_mlp.binarize(latents, weights)
    binary_mlp.forward(weights, biases, activations)
    loss = binary_mlp.cross_entropy(activations[-1], targets, deltas[-1])
    binary_mlp.backward(weights, activations, deltas, gradients, bias_gradients)
    if chain:
        binary_mlp.through_scale(weights, gradients)

    hidden = torch.from_numpy(inputs)
    leaves = [
        (torch.from_numpy(v).requires_grad_(), torch.from_numpy(b).requires_grad_()) for v, b in zip(latents, biases)
    ]
    for layer, (latent, bias) in enumerate(leaves):
        scale = latent.abs().mean(1, keepdim=True)
        sign = latent.detach().sign()
        if chain:
            weight = scale * (latent + (sign - latent).detach())
        else:
            weight = latent + (scale * sign - latent).detach()
        hidden = hidden @ weight.T + bias
        hidden = hidden.relu() if layer < len(leaves) - 1 else hidden
    expected = torch.nn.functional.cross_entropy(hidden, torch.from_numpy(targets))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for layer, (latent, bias) in enumerate(leaves):
        np.testing.assert_allclose(gradients[layer], latent.grad, atol=1e-6)
        np.testing.assert_allclose(bias_gradients[layer], bias.grad, atol=1e-6)


def test_compiled_adam_is_that_of_torch():
    rng = np.random.default_rng(0)
    value, gradient = (rng.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
    parameter = torch.from_numpy(value.copy()).requires_grad_()
    reference = torch.optim.AdamW([parameter], lr=0.1, betas=(0.9, 0.99), weight_decay=0.2)
    moments = np.zeros_like(value), np.zeros_like(value)
    for step in range(1, 6):
        parameter.grad = torch.from_numpy(gradient) * step
        reference.step()
        binary_mlp.adam(value, gradient * np.float32(step), *moments, step, 0.1, 0.99, 0.2)
    np.testing.assert_allclose(value, parameter.detach(), rtol=1e-4)


def test_exponentials_are_accurate():
    exact = np.linspace(-80, 80, 4001)
    values = exact.astype(np.float32).reshape(1, -1).copy()
    binary_mlp.exponentials(values)
    np.testing.assert_allclose(values[0], np.exp(exact.astype(np.float32).astype(float)), rtol=1e-5)


def test_straight_through_trains_reproducibly_and_its_loss_is_that_of_its_weights():
    split = digits(1000)
    setting = straight_through.Setting(lr=1e-2, batch=64, restarts=2, clip=1.0, chain=True)
    net = straight_through.train(split, (6, 5), setting, budget=0.1, seed=0, smoothing=0.05)
    again = straight_through.train(split, (6, 5), setting, budget=0.1, seed=0, smoothing=0.05)
    assert net.loss == again.loss and all(map(np.array_equal, net.codes, again.codes))
    assert [codes.shape for codes in net.codes] == [(6, 64), (5, 6), (10, 5)]
    targets = torch.from_numpy(split.train_targets)
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(net.logits(split.train_inputs)), targets, label_smoothing=0.05
    )
    assert net.loss == pytest.approx(float(loss), rel=1e-4) and net.loss < 1.6
    assert all(set(np.unique(codes)) <= {-1.0, 1.0} for codes in net.codes)


def test_perceptron_baselines_count_their_own_errors_right():
    patterns, labels = random_patterns(1000, 101, 0.4)
    setting = binary_perceptron.Setting(lr=1e-2, batch=4, margin=0.5, squared=False, adaptive=True, epochs=50)
    for variant in (
        setting,
        replace(setting, adaptive=False, lr=0.1, clip=1.0),
        replace(setting, batch=512, squared=True),
    ):
        weights, errors, _ = binary_perceptron.train(patterns, labels, variant, budget=0.02, seed=0)
        assert errors == (patterns @ weights * labels <= 0).sum() < 10 and set(np.unique(weights)) == {
            -1.0,
            1.0,
        }
    weights, errors, iterations = belief_propagation.solve(patterns, labels, decays=(0.97, 0.99), seed=0)
    assert errors == 0 == (patterns @ weights * labels <= 0).sum() and iterations < 300


def test_annealing_solves_a_perceptron_that_descents_do_not():
    inputs, labels = random_patterns(1001, 101, 0.7)

    def solve(temperature: tuple[float, float], budget: float) -> dict[str, object]:
        weights, passes = patterns.anneal(inputs, labels, seed=0, budget=budget, temperature=temperature)
        assert weights.shape == (101,) and set(np.unique(weights)) == {-1.0, 1.0}
        return patterns.measured(inputs, labels, weights, passes)

    found = solve((0.08, 0.06), 100.0)  # it ends where it is solved
    assert found["solved"] and found["loss"] == 0.0 and found["metric"] == 1.0
    assert found == solve((0.08, 0.06), 100.0)
    assert not solve((0.0, 0.0), 0.1)["solved"]


def test_tuning_halves_and_ends_with_the_winner():
    base = binary_perceptron.Setting(lr=1.0, batch=1, margin=0.0, squared=False, adaptive=False, epochs=1)
    settings = [replace(base, epochs=epochs) for epochs in (1, 2, 3, 4)]

    def evaluate(setting: binary_perceptron.Setting, seed: int) -> dict[str, float]:
        return {"loss": abs(setting.epochs - 3) + seed}

    rows = list(
        search(
            [Round(lambda _: settings, evaluate, (0, 2), keep=2), Round(list, evaluate, (5,), keep=1)],
            lambda row: row["loss"],
        )
    )
    assert [(row["round"], row["epochs"]) for row in rows[:4]] == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert (rows[2]["loss"] == 1.0 and {row["epochs"] for row in rows[4:6]} == {2, 3}) or {
        row["epochs"] for row in rows[4:6]
    } == {3, 4}
    assert rows[-1]["chosen"] and rows[-1]["epochs"] == 3 and sum(row["chosen"] for row in rows) == 1
