"""The pruning benchmark on a network that is hardly trained: records, choice of learning rates, table, picture."""

import json

import pytest

from benchmarks.prune import __main__ as command
from benchmarks.prune import contenders, network, run
from benchmarks.rows import read

NAMES = ("magnitude", "OBS with update", "gradual magnitude, equal CPU")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(network, "SIZES", (64, 4, 10))
    monkeypatch.setattr(network, "STEPS", 40)
    monkeypatch.setattr(network, "FINETUNE", 5)
    monkeypatch.setattr(run, "LRS", (1e-3, 1e-2))
    monkeypatch.setattr(run, "TUNING_SEEDS", (1000,))
    monkeypatch.setitem(contenders.CONTENDERS, "ours", contenders.by(stages=2, refits=1))


def test_records_and_tables(short, tmp_path, capsys):
    path = tmp_path / "prune.jsonl"
    assert command.main(["--seeds", "0:2", "--contenders", *NAMES, "--output", str(path)]) == 0
    records = read(path)
    names, total = ("ours", *NAMES), 64 * 4 + 4 * 10
    assert len(records) == 2 * len(names) * (2 + 2)  # densities; learning rates on a tuning seed, reporting seeds
    for record in records:
        assert record["kept"] <= round(record["density"] * total) and record["cpu_s"] > 0
        assert (record["seed"] >= 1000) == (record["phase"] == "tuning")
    for density in run.DENSITIES:
        tuning = [r for r in records if r["density"] == density and r["phase"] == "tuning"]
        for name in names:
            best = min((r for r in tuning if r["contender"] == name), key=lambda r: r["loss"])["lr"]
            told = {r["lr"] for r in records if (r["density"], r["contender"]) == (density, name) and r not in tuning}
            assert told == {best}
    text = capsys.readouterr().out
    assert "**80% dropped**, 2 seeds" in text and "| magnitude |" in text
    assert path.with_suffix(".png").stat().st_size > 1000
    assert json.loads(path.read_text().splitlines()[0])["contender"] == "ours"


@pytest.mark.slow
@pytest.mark.parametrize("density", run.DENSITIES)
def test_pruned_networks_learn_more_in_200_steps_than_those_of_the_baselines(density):
    names = ("ours", "OBS with update", "magnitude")
    best, records = {}, [r for seed in (20, 21) for r in run.measure(seed, density, dict.fromkeys(names, run.LRS))]
    for name in names:
        best[name] = min(sum(r["loss"] for r in records if (r["contender"], r["lr"]) == (name, lr)) for lr in run.LRS)
    print(density, best)
    assert best["ours"] <= 0.8 * best["OBS with update"] and best["ours"] <= 0.35 * best["magnitude"]
