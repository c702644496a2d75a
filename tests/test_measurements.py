"""Measurements beside the benchmark's tasks: they run, and their tables say what rows say."""

from dataclasses import replace

import pytest

from benchmarks import embedding, overlap, share, wrong_temperature
from benchmarks.rows import read, write


def row(heat, way, loss):
    return {"heat": heat, "way": way, "seed": 0, "loss": loss, "accepted": 0.25, "met_over_asked": heat}


def test_wrong_temperatures_are_compared_with_the_right_one(tmp_path):
    rows = [row(heat, way, heat) for heat in (1.0, 2.0) for way in wrong_temperature.WAYS]
    write(tmp_path / "rows.jsonl", rows)
    lines = wrong_temperature.table(read(tmp_path / "rows.jsonl")).splitlines()
    assert len(lines) == 8
    assert lines[5] == "| × 2 | estimates | 2.00 | 25% | 2 (nan) | 2.00 |"


@pytest.mark.parametrize("way", wrong_temperature.WAYS)
def test_a_seat_uses_of_its_estimate_what_the_way_says(way, tmp_path, monkeypatch):
    monkeypatch.setattr(wrong_temperature, "QUBO", replace(wrong_temperature.QUBO, calls=12, polish=0, warmup=0.02))
    seats = []
    init = wrong_temperature.Seat.__init__

    def noted(self, *arguments):
        init(self, *arguments)
        seats.append(self)

    monkeypatch.setattr(wrong_temperature.Seat, "__init__", noted)
    told = []
    settle = wrong_temperature.Seat.sample_arrays

    def sampled(self, qubo, **ask):
        drawn = settle(self, qubo, **ask)
        told.append(drawn.info["temperature"] == ask["temperature"])
        return drawn

    monkeypatch.setattr(wrong_temperature.Seat, "sample_arrays", sampled)
    found = wrong_temperature.run(1000, 2.0, way, str(tmp_path))
    learns, tells = wrong_temperature.WAYS[way]
    assert (seats[0].tuning.of("MockDWaveSampler").temperature > 0.2) == learns
    assert any(told) != tells and 0 < found["accepted"] <= 1
    assert learns or found["met_over_asked"] > 1.5


def test_a_call_of_each_sampler_in_turn(monkeypatch):
    monkeypatch.setattr(share, "WARMUP", 2)
    monkeypatch.setattr(share, "EVERY", 1)
    order = []
    timed = share.Timed._timed

    def noted(self, qubo, **ask):
        order.append(self.sampler.name)
        return timed(self, qubo, **ask)

    monkeypatch.setattr(share.Timed, "_timed", noted)
    rows = share.run(1000, 3)
    assert order == 3 * ["dwave-sa", "dwave-sa", "annealer", "annealer"]  # two blocks a call
    assert [row["sampler"] for row in rows] == list(share.SAMPLERS)
    assert all(0 < row["share"] < 1 and 0 < row["sample_s"] < row["call_s"] for row in rows)
    row = {"sampler": "dwave-sa", "call_s": 2e-3, "sample_s": 1e-3, "share": 0.5}
    rows = [{**row, "seed": 0}, {**row, "seed": 1, "share": 0.25}, {**row, "sampler": "annealer", "seed": 0}]
    assert share.table(rows).splitlines()[2] == "| `dwave-sa` | 2.00 | 1.00 | 0.38 (0.25 to 0.50) |"


def test_overlap_compares_every_way_with_none_and_with_blocking(monkeypatch):
    monkeypatch.setattr(overlap, "WARMUP", 4)
    monkeypatch.setattr(overlap, "CALLS", 3)
    rows = list(overlap.runs([2], [1000, 1001], True, False))
    assert [row["way"] for row in rows] == 2 * list(overlap.WAYS)
    assert all(row["steps_per_s"] > 0 and row["latency_s"] > 0 for row in rows)
    assert rows[0]["share"] == rows[4]["share"] == 1.0
    again = next(overlap.runs([2], [1001], False, False))
    assert again["loss"] == rows[4]["loss"] != rows[0]["loss"]  # the clock decides nothing
    losses = {"none": 3.0, "blocking": 2.0, "asynchronous": 1.0, "with lag": 2.5}
    rows = [
        {"way": way, "every": 2, "seed": seed, "steps_per_s": 10.0, "share": share * loss, "loss": loss, "latency_s": t}
        for way, loss in losses.items()
        for seed, share, t in ((0, 1 / 3, 0.1), (1, 7.0, 0.0))  # the speed of the second does not count
    ]
    lines = overlap.table(rows).splitlines()
    assert "steps/s, 1 seeds | share | loss, 2 seeds" in lines[0]
    assert "| asynchronous | 10 | 0.333 | 1 (0); ×0.500" in lines[4] and lines[4].endswith("2 of 2 no worse |")
    assert lines[5].endswith("0 of 2 no worse |")
    untimed = overlap.table([row for row in rows if row["seed"]])
    assert untimed.startswith("| annealing every | way | loss, 1 seeds |")


def test_what_ocean_would_take_of_a_call_is_told(capsys, monkeypatch):
    monkeypatch.setattr(embedding, "TIMES", 1)
    monkeypatch.setattr(embedding, "N", 9)
    embedding.main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" |")[0] for line in lines[2:]] == [
        "| chain strength",
        "| programming",
        "| reading",
        "| all outside of the sampler",
    ]
