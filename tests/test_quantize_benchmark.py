"""The parts of the rounding benchmark that need neither a transformer nor a network."""

import copy
import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.harness import BadInput
from benchmarks.quantize import beam, contenders, packages, reference, run, table, text
from benchmarks.quantize.measures import Distance, ratio
from benchmarks.quantize.reference import gptq
from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.layers import find_layers
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.layer import layer_moments


def test_a_package_must_have_its_checksum(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content = b"what was asked for"
    package = packages.Package("none==0", "none-0.zip", hashlib.sha256(content).hexdigest())
    path = packages.folder() / package.file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert packages.fetch(package) == path
    path.write_bytes(content + b"!")
    with pytest.raises(BadInput, match=r"Invalid package: .*none-0.zip: its SHA-256 is"):
        packages.fetch(package)


def test_joining_keeps_every_sentence():
    sentences = [f"sentence {k}." for k in range(101)]
    texts = text.of_all_lengths(sentences, 0.5)
    assert " ".join(texts) == " ".join(sentences)
    assert texts[:51] == sentences[:51] and all(" sentence" in joined for joined in texts[51:-1])
    assert text.of_all_lengths(sentences, 0.0) == sentences


def test_distance_of_embeddings():
    original = nn.functional.normalize(torch.randn(40, 5, generator=torch.Generator().manual_seed(0)))
    same = Distance.of(original, original).record()
    assert same == {"mse": 0.0, "cosine": 1.0, "overlap": 1.0}
    turned = Distance.of(-original, original)  # all distances among them stay
    assert turned.record()["mse"] == pytest.approx(4, abs=1e-5) and turned.record()["overlap"] == 1.0
    mixed = Distance.of(original.roll(1, 0), original).record()
    assert mixed["cosine"] == pytest.approx(float((original.roll(1, 0) * original).sum(1).mean()), abs=1e-5)
    assert mixed["overlap"] < 0.6


def test_the_interval_of_a_ratio_is_paired():
    theirs = np.random.default_rng(1).random(300) + 0.1
    value, low, high = ratio(theirs * 0.9, theirs)
    assert (value, low, high) == pytest.approx((0.9, 0.9, 0.9))
    value, low, high = ratio(theirs[::-1] * 0.9, theirs)
    assert low < 0.85 and value == pytest.approx(0.9) and high > 0.95


def test_layer_errors_are_those_of_outputs():
    torch.manual_seed(0)
    original = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3))
    rounded = copy.deepcopy(original)
    with torch.no_grad():
        for param in rounded.parameters():
            param += 0.1 * torch.randn_like(param)
    images = torch.randn(6, 2, 4, 4)
    seen = layer_moments(Feed(original, [images]), find_layers(original)[0])
    hidden = original[:2](images)
    with torch.no_grad():
        first = (rounded[0](images) - original[0](images)).square().sum(1).mean()
        last = (rounded[2](hidden) - original[2](hidden)).square().sum(1).mean()
    assert run.layer_errors(rounded, original, seen) == pytest.approx([float(first), float(last)], rel=1e-4)


def test_the_reference_rounds_to_nearest_without_correlations():
    grid = Grid(2, torch.full((3, 1), 0.5), torch.full((3, 1), 1.0), 4)
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(gptq(weight, torch.diag(torch.tensor([1.0, 4.0, 2.0, 3.0])), grid), grid.nearest(weight))


def test_equal_integers_are_summed_over_layers():
    rows = [{"width": w, "integers": 1000, "equal": e} for w, e in (("3 bits", 1000), ("3 bits", 999), ("4 bits", 5))]
    shown = reference.table(rows)
    assert "| 3 bits | 2 | 2,000 | 1,999 |" in shown and "| 4 bits | 1 | 1,000 | 5 |" in shown


def test_a_wider_beam_is_shown_in_units_of_gptq():
    shown = beam.table([record for seed in (1000, 1001) for record in beam.measure(64, seed)]).splitlines()
    assert len(shown) == 2 + len(beam.WIDTHS) and shown[2].startswith("| 64 | 1 | 1.000 ± 0.000 | ")
    assert all(float(line.split("|")[3].split()[0]) < 0.95 for line in shown[4:])


def test_gptq_stands_with_the_calibration_that_serves_it_best():
    def record(calibration, contender, draw, errors):
        head = {"subject": "net", "width": "3 bits", "calibration": calibration, "contender": contender, "draw": draw}
        return {**head, "errors": {"points": errors}}

    records = [
        record("short", "gptq", 0, [4.0, 4.0]),
        record("long", "gptq", 0, [2.0, 2.0]),
        record("short", "cd", 0, [3.0, 3.0]),
        record("short", "ours", 0, [1.0, 1.0]),
        record("short", "ours", 1, [9.0, 9.0]),  # a draw that the others do not have
    ]
    head = ("net", "3 bits", "short")
    assert table.against(records, head, "ours", "gptq", "points").startswith("0.500 ")
    assert table.against(records, head, "ours", "cd", "points").startswith("0.333 ")
    assert table.against(records, head, "ours", "rtn", "points") == ""


def test_a_small_network_goes_through_all_of_it(tmp_path, monkeypatch):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(20, 8), nn.Tanh(), nn.Linear(8, 4)).eval()
    inputs, unseen = torch.randn(2, 100, 20)

    def judge(other):
        with torch.no_grad():
            squared = (other(unseen) - model(unseen)).square().sum(1)
        return {"points": ({"mse": float(squared.mean())}, squared)}

    def subject(draw):
        return run.Subject(lambda: copy.deepcopy(model), {"points": ([inputs + 0.01 * draw], [unseen])}, judge)

    monkeypatch.setitem(run.SUBJECTS, "tiny", subject)
    records = list(run.run("tiny", ["3 bits"], [0, 1], list(contenders.CONTENDERS)))
    assert len(records) == 2 * len(contenders.CONTENDERS)
    by_name = table.runs(records, "tiny", "3 bits", "points")
    assert sum(by_name["gptq"][0]["layers"]["calibration"]) < sum(by_name["rtn"][0]["layers"]["calibration"])
    shown = table.tables(records)
    assert "**tiny, 3 bits, calibrated on points**, mean of 2 draws" in shown and "| ours without annealing |" in shown
    assert "| gptq | 0." in shown and " 1.000 (1.000 to 1.000) |" in shown  # GPTQ in its own units
    assert " alone, " not in shown
    quiet = {**by_name["gptq"][0], "alone": True, "wall_s": 1234.5, "threads": 2}
    assert "| 1234.5 alone, 2 threads |" in table.tables([*records, quiet])
    fewer = table.tables([record for record in records if record["contender"] != "rtn" or record["draw"]])
    assert "mean of 2 draws; rtn of 1" in fewer
    assert "calibrated on points**, one draw" in table.tables([record for record in records if not record["draw"]])
    table.plot(records, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
