"""What a run takes: readings of counters, and what a summary makes of them."""

import copy
import importlib.machinery
import math
import pickle
import sys
import time
import types
from pathlib import Path

import pytest

import qanneal_opt as qa
from qanneal_opt import alternation, energy
from qanneal_opt.energy import Meter
from tests.toys import make, net, train


def zone(folder, name, label, joules, most=100.0):
    """A zone of the power capping framework."""
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "name").write_text(label + "\n")
    (path / "max_energy_range_uj").write_text(f"{int(most * 1e6)}\n")
    (path / "energy_uj").write_text(f"{int(joules * 1e6)}\n")


@pytest.fixture
def clock(monkeypatch):
    now = [50.0]
    clocks = types.SimpleNamespace(perf_counter=lambda: now[0], process_time=time.process_time)
    monkeypatch.setattr(energy, "time", clocks)
    monkeypatch.setattr(energy, "_gpus", lambda: iter(()))
    return now


def test_packages_are_added_up_and_their_parts_are_not(tmp_path, clock):
    for at, joules in enumerate((1.0, 2.5)):
        zone(tmp_path, "intel-rapl:0", "package-0", joules)
        zone(tmp_path, "intel-rapl:1", "package-1", 10 * joules)
        zone(tmp_path, "intel-rapl:0:0", "core", 70 * joules)  # within package-0
        zone(tmp_path, "intel-rapl:2", "psys", 90 * joules)  # the packages and more
        if not at:
            meter = Meter(tmp_path)
    clock[0] += 0.02
    assert meter.lap()["joules"] == pytest.approx(16.5)
    assert meter.names == "package-0 by RAPL, package-1 by RAPL"
    assert meter.lap() == {"wall": 0.0, "cpu": pytest.approx(0.0, abs=0.1), "joules": 0.0}


def test_a_counter_wraps_and_one_that_may_have_wrapped_unseen_is_not_believed(tmp_path, clock):
    zone(tmp_path, "intel-rapl:0", "package-0", 99.0)
    meter = Meter(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 3.0)
    clock[0] += 0.05
    assert meter.lap()["joules"] == pytest.approx(4.0)
    clock[0] += 0.11  # at 1000 W that is more than its range
    assert math.isnan(meter.lap()["joules"])


def test_without_counters_joules_are_unknown(tmp_path, clock):
    assert math.isnan(Meter(tmp_path / "nowhere").lap()["joules"])
    zone(tmp_path, "intel-rapl:0", "package-0", 1.0)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert Meter(tmp_path).names == ""
    zone(tmp_path, "intel-rapl:0", "package-0", 1.0)
    meter = Meter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()  # it goes while it is used
    assert math.isnan(meter.lap()["joules"])


def test_a_counter_that_may_not_be_read_is_none(tmp_path, clock, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0", 1.0)
    assert Meter(tmp_path).names
    read = Path.read_text

    def refused(path, *arguments):  # by a change of mode it would not be to the administrator
        if path.name == "energy_uj":
            raise PermissionError
        return read(path, *arguments)

    monkeypatch.setattr(Path, "read_text", refused)
    assert Meter(tmp_path).names == ""


def test_cpu_seconds_are_those_of_the_process():
    meter = Meter()
    total = sum(k * k for k in range(300_000))
    lap = meter.lap()
    assert total and 0 < lap["cpu"] < 10 and lap["wall"] > 0


def nvml(millijoules, fails=False):
    module = types.ModuleType("pynvml")
    module.__spec__ = importlib.machinery.ModuleSpec("pynvml", None)
    module.NVMLError = type("NVMLError", (Exception,), {})

    def init():
        if fails:
            raise module.NVMLError("no driver")

    module.nvmlInit = init
    module.nvmlDeviceGetCount = lambda: len(millijoules)
    module.nvmlDeviceGetHandleByIndex = lambda k: k
    module.nvmlDeviceGetTotalEnergyConsumption = lambda k: millijoules[k]
    return module


def test_gpus_are_counted_where_pynvml_is(tmp_path, monkeypatch):
    counts = [5_000, 70_000]
    monkeypatch.setitem(sys.modules, "pynvml", nvml(counts))
    meter = Meter(tmp_path)
    counts[1] += 2_500
    assert meter.lap()["joules"] == pytest.approx(2.5)
    assert meter.names == "gpu 0 by NVML, gpu 1 by NVML"
    monkeypatch.setitem(sys.modules, "pynvml", nvml(counts, fails=True))
    assert Meter(tmp_path).names == ""


def trained(steps, **options):
    model = net()
    optimizer = make(model, **options)
    train(model, optimizer, steps)
    return optimizer


def rows(optimizer, **options):
    return dict(line.split("  ", 1) for line in optimizer.summary(**options).splitlines())


def test_a_summary_has_joules_only_where_they_were_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_gpus", lambda: iter(()))
    monkeypatch.setattr(alternation, "Meter", lambda: Meter(tmp_path))
    optimizer = trained(4)
    assert {"whole run"} == {name for name in rows(optimizer) if "run" in name or "energy" in name}
    assert "0 s of QPU" in rows(optimizer)["whole run"]

    zone(tmp_path, "intel-rapl:0", "package-0", 1.0, most=1e6)
    optimizer = trained(4)
    zone(tmp_path, "intel-rapl:0", "package-0", 8.25, most=1e6)
    assert "7.25 J (package-0 by RAPL; all that the machine did)" in rows(optimizer)["energy, measured"]


def test_an_estimate_says_what_it_is():
    assert trained(1).summary(watts_per_core=10.0) == "no annealing step yet"
    optimizer = trained(4)
    text = rows(optimizer, watts_per_core=10.0)["energy, estimated"]
    joules, what = text.strip().split(" J ")
    cpu = optimizer.state_dict()["param_groups"][0]["anneal_cpu"]
    assert float(joules) == pytest.approx(10 * cpu, rel=1e-3) and what == "(10 W a core, CPU time alone)"
    assert "energy, estimated" not in rows(optimizer)
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="Invalid watts_per_core"):
            optimizer.summary(watts_per_core=bad)


def test_totals_of_the_run_go_on_after_a_resume_and_in_copies():
    optimizer = trained(3, schedule=qa.Every(1))
    before = optimizer.state_dict()["param_groups"][0]["anneal_wall"]
    assert before > 0
    fresh = make(net(1), schedule=qa.Every(1))
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.state_dict()["param_groups"][0]["anneal_wall"] == before
    for other in (fresh, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        other.anneal()
        assert other.state_dict()["param_groups"][0]["anneal_wall"] > before
