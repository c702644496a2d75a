"""Measurements beside the benchmark's tasks: they run, and their tables say what rows say."""

from dataclasses import replace

import pytest

from benchmarks import wrong_temperature
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
