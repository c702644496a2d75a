"""The commands: what they print, their exit status, and one clear line on bad input."""

import json
import subprocess
import sys

import pytest
from minorminer.busclique import find_clique_embedding

from qanneal_opt.cli import main
from qanneal_opt.cli.demo import draw, summarize
from qanneal_opt.demo.mock_machine import MockMachine

QUICK = ["--steps", "30", "--rounds", "3", "--polish", "5", "--hidden", "4"]


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "torch" in text and "dwave-sa" in text
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["packages"]["numba"] and any(row["name"] == "annealer" for row in report["samplers"])


def test_doctor_examines_a_machine(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("QANNEAL_OPT_CACHE", str(tmp_path))
    assert main(["doctor", "--mock"]) == 0
    text = capsys.readouterr().out
    assert "pegasus 16, 5640 qubits" in text and "an annealing step of QuboStep(): 33.4 ms of QPU" in text
    monkeypatch.setenv("DWAVE_API_TOKEN", "a-token-that-is-not-shown")
    monkeypatch.setattr("dwave.system.DWaveSampler", lambda: MockMachine("zephyr", (4,)))
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["quantum_annealer"]
    sizes = {int(length): n for length, n in report["largest_clique_by_chain_length"].items()}
    lattice = MockMachine("zephyr", (4,)).to_networkx_graph()
    for length, n in sizes.items():
        assert max(map(len, find_clique_embedding(n, lattice, use_cache=False, seed=0).values())) == length
    assert not find_clique_embedding(max(sizes.values()) + 1, lattice, use_cache=False, seed=0)
    assert report["cached_embeddings"] == {"16": 1, "32": 1}

    def refuse():
        raise OSError("refused a-token-that-is-not-shown")

    monkeypatch.setattr("dwave.system.DWaveSampler", refuse)
    for argv in (["doctor"], ["doctor", "--offline"]):
        assert main(argv) == 0
        text = capsys.readouterr().out
        assert ("refused ***" in text) == (len(argv) == 1) and "a-token" not in text


@pytest.mark.slow
def test_the_demo_through_a_mock_machine(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("QANNEAL_OPT_CACHE", str(tmp_path))
    assert main(["demo", "--sampler", "qpu", "--mock"]) == 0
    text = capsys.readouterr().out
    assert "ledger of qpu" in text and "600 calls, 0 answered locally" in text


@pytest.mark.parametrize("annealing", ["direct", "qubo", "none"])
def test_train_on_a_bundled_table(capsys, annealing):
    assert main(["train", "--data", "wine", "--annealing", annealing, "--json", *QUICK]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report["test_accuracy"] <= 1 and report["loss"] > 0
    assert len(report["records"]) == (0 if annealing == "none" else 3)


def test_train_on_a_csv_file_and_save(capsys, tmp_path):
    table, saved = tmp_path / "table.csv", tmp_path / "model.pt"
    rows = [f"{k % 7},{k % 5},{(k % 7) * 0.5 - (k % 5) * 0.25}" for k in range(60)]
    table.write_text("a,b,y\n" + "\n".join(rows))
    assert main(["train", "--data", str(table), "--levels", "ternary", "--save", str(saved), *QUICK]) == 0
    assert "test_rmse" in capsys.readouterr().out
    assert saved.stat().st_size > 0
    table.write_text("a,b,y\n" + "\n".join(f"{k % 7},{k % 5},{'yes' if k % 7 > 3 else 'no'}" for k in range(60)))
    assert main(["train", "--data", str(table), "--target", "y", *QUICK]) == 0
    assert "test_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["train", "--data", "nothing.csv"], "--data: nothing.csv"),
        (["train", "--data", "wine", "--hidden", "a"], "--hidden: a"),
        (["train", "--data", "wine", "--test-size", "2"], "--test-size: 2"),
        (["train", "--data", "wine", "--steps", "0"], "--steps: 0"),
        (["train", "--data", "wine", "--save", "/nowhere/at/all.pt"], "path: /nowhere/at/all.pt"),
        (["train", "--data", "wine", "--annealing", "qubo", "--sampler", "none such"], "sampler: 'none such'"),
        (["demo", "--seeds", "0"], "--seeds: 0"),
        (["demo", "--mock"], "--mock"),
        (["demo", "--sampler", "none such"], "sampler: 'none such'"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(capsys, argv, named):
    assert main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and named in lines[0]


@pytest.mark.parametrize(
    "body",
    ["", "a\n1\n2\n", "a,y\n1,0\n2\n3,1\n", "a,y\nx,0\ny,1\nz,0\n", "a,y\nnan,0\n1,1\n2,0\n", "a,y\n1,0\n2,0\n3,0\n"],
)
def test_tables_of_no_use(capsys, tmp_path, body):
    table = tmp_path / "table.csv"
    table.write_text(body)
    assert main(["train", "--data", str(table), *QUICK]) == 2
    assert "--data" in capsys.readouterr().err


def test_bad_usage_has_status_2_and_help_0(capsys):
    assert main(["nothing"]) == 2
    assert main(["train"]) == 2
    for command in ([], ["demo"], ["train"], ["quantize"], ["prune"], ["doctor"]):
        assert main([*command, "--help"]) == 0
    capsys.readouterr()


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "qanneal_opt", "train", "--data", "no.csv"], capture_output=True, check=False
    )
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1


def test_the_demo_summarises_and_draws(tmp_path):
    rows = [
        {"task": task, "contender": name, "seed": seed, "solved": name == "b", "loss": 0.1 + seed, "metric": 0.9}
        | {"ge": 10.0, "cpu_s": 1.0, "wall_s": 1.0}
        for task in ("digits_binary", "perceptron")
        for name in ("a", "b")
        for seed in range(2)
    ]
    summary = summarize(rows)
    assert summary["perceptron"]["b"]["solved"] == 1.0 and summary["digits_binary"]["a"]["loss"] == pytest.approx(0.6)
    assert summary["digits_binary"]["a"]["loss_se"] == pytest.approx(0.5)
    draw(rows, tmp_path / "demo.png")
    assert (tmp_path / "demo.png").stat().st_size > 1000
