"""Schedules against a literal reading of their definition, temperatures, and the totals of records."""

import dataclasses
import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanneal_opt.schedule import Cooling, Every, OnPlateau, Span
from qanneal_opt.telemetry import TOTALS, AnnealRecord, add_up, summarize

numbers = st.integers(1, 12)


@given(n=numbers, start=st.integers(0, 15), more=st.none() | st.integers(0, 40))
def test_every_is_its_definition(n, start, more):
    """Anneal after step k when start < k <= stop and (k - start) % n == 0."""
    stop = None if more is None else start + n + more
    last = math.inf if stop is None else stop
    expected = [k for k in range(1, 80) if start < k <= last and (k - start) % n == 0]
    schedule = Every(n, start=start, stop=stop)
    due = [k for k in range(1, 80) if schedule.due(k, pytest.fail, {})]
    assert due == expected
    spans = [schedule.span(k) for k in due]
    if stop is None:
        assert set(spans) == {None}
    else:
        assert spans == [Span(round, len(expected)) for round in range(len(expected))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "Invalid n: 0; an int of at least 1"),
        ({"n": 2.5}, "Invalid n: 2.5"),
        ({"n": True}, "Invalid n: True"),
        ({"n": 5, "start": -1}, "Invalid start: -1"),
        ({"n": 5, "start": 10, "stop": 14}, "Invalid stop: 14; an int of at least 15"),
        ({"n": 5, "budget": 0.0}, "Invalid budget: 0.0"),
        ({"n": 5, "budget": 1.5}, "Invalid budget: 1.5"),
        ({"n": 5, "budget": math.nan}, "Invalid budget: nan"),
    ],
)
def test_every_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Every(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "Invalid patience: 0"),
        ({"patience": 3, "min_delta": -0.1}, "Invalid min_delta: -0.1"),
        ({"patience": 3, "min_delta": math.inf}, "Invalid min_delta: inf"),
        ({"patience": 3, "budget": -1}, "Invalid budget: -1"),
    ],
)
def test_on_plateau_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        OnPlateau(**options)


def plateaus(schedule, curve, memory=None):
    """The steps at which ``schedule`` anneals, when the objective after step k is ``curve[k - 1]``."""
    memory = {} if memory is None else memory
    return [k for k, value in enumerate(curve, 1) if schedule.due(k, lambda value=value: value, memory)]


def test_on_plateau_waits_for_the_objective_to_stand_still():
    falling = [10.0 - 0.5 * k for k in range(12)]
    assert plateaus(OnPlateau(3), falling) == []
    assert plateaus(OnPlateau(3), falling + [4.5] * 9) == [15, 18, 21]  # 4.5 was reached at step 12
    assert plateaus(OnPlateau(1), [3.0, 2.0, 2.0, 1.0, 1.0]) == [3, 5]
    assert plateaus(OnPlateau(2), [1.0] * 7) == [4, 6]


def test_on_plateau_counts_no_fall_below_min_delta():
    slow = [1.0 - 0.01 * k for k in range(20)]
    assert plateaus(OnPlateau(5, min_delta=0.04), slow) == []
    assert plateaus(OnPlateau(5, min_delta=0.06), slow) == [10, 15, 20]


def test_on_plateau_compares_with_the_best():
    assert plateaus(OnPlateau(1), [1.0, 5.0, 4.0, 3.0, 0.5]) == [2, 3, 4]


def test_on_plateau_survives_a_look_at_nan():
    curve = [5.0, 4.0, math.nan, 3.0, math.nan, 3.0]
    assert plateaus(OnPlateau(1), curve) == [3, 5, 6]


def test_on_plateau_remembers_through_its_memory_alone():
    curve = [10.0, 9.0, 9.0, 8.0, 8.0, 8.0, 7.0]
    memory = {}
    first = plateaus(OnPlateau(1), curve[:3], memory)
    memory = json.loads(json.dumps(memory))
    later = [3 + k for k in plateaus(OnPlateau(1), curve[3:], memory)]
    assert first + later == plateaus(OnPlateau(1), curve)


def test_on_plateau_looks_once_each_patience_and_each_call_is_its_own_span():
    looks = []
    schedule = OnPlateau(4)
    for k in range(1, 13):
        schedule.due(k, lambda k=k: looks.append(k) or 1.0, {})
        assert schedule.span(k) is None
    assert looks == [4, 8, 12]


# ------------------------------------------------------------------------------------------- cooling


@given(
    first=st.floats(1e-6, 1e3),
    last=st.floats(1e-6, 1e3),
    rounds=st.integers(2, 30),
    reference=st.floats(1e-3, 1e3),
)
def test_temperatures_fall_geometrically_from_first_to_last(first, last, rounds, reference):
    for unit, factor in (("relative", reference), ("absolute", 1.0)):
        cooling = Cooling.of((first, last), unit)
        heat = [cooling.at(k, rounds, reference) for k in range(rounds)]
        assert heat[0] == pytest.approx(first * factor) and heat[-1] == pytest.approx(last * factor)
        ratios = [b / a for a, b in itertools.pairwise(heat)]
        assert ratios == pytest.approx([(last / first) ** (1 / (rounds - 1))] * (rounds - 1))


def test_one_round_has_the_first_temperature_and_one_number_is_constant():
    assert Cooling.of((0.4, 0.1), "absolute").at(0, 1, 7.0) == 0.4
    assert [Cooling.of(0.3, "relative").at(k, 3, 2.0) for k in range(3)] == pytest.approx([0.6] * 3)
    assert Cooling.of([1, 0.5], "absolute").at(1, 2, 0.0) == pytest.approx(0.5)


@pytest.mark.parametrize("reference", [0.0, -3.0, math.nan])
def test_a_relative_temperature_needs_a_positive_objective(reference):
    with pytest.raises(ValueError, match=f'"relative" needs an objective above 0, and it is {reference:g}'):
        Cooling.of(0.1, "relative").at(0, 1, reference)
    assert Cooling.of(0.1, "absolute").at(0, 1, reference) == 0.1
    assert Cooling.of(0.0, "relative").at(0, 1, reference) == 0.0


@pytest.mark.parametrize(
    "temperature",
    [-0.1, math.nan, math.inf, (0.1, 0.0), (0.0, 0.1), (0.1, -1), (1, 0.5, 0.1), (), "hot", None],
)
def test_bad_temperatures_are_quoted(temperature):
    with pytest.raises(ValueError, match="Invalid temperature: ") as caught:
        Cooling.of(temperature, "absolute")
    assert repr(temperature) in str(caught.value)


def test_an_unknown_unit_is_quoted():
    with pytest.raises(ValueError, match='Invalid temperature_unit: \'kelvin\'; "relative" or "absolute"'):
        Cooling.of(0.1, "kelvin")


# ----------------------------------------------------------------------------------------- telemetry


def record(**changes):
    return AnnealRecord(step=5, strategy="direct", candidates=48, accepted=3, moved=4, **changes)


def test_a_record_goes_straight_to_json():
    one = record(loss_before=2.0, loss_after=1.5, seconds={"model": 0.1, "sample": 0.0, "judge": 0.2})
    assert json.loads(json.dumps(dataclasses.asdict(one), allow_nan=False))["loss_after"] == 1.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.step = 6
    assert record().seconds is not record().seconds


def test_totals_add_up():
    totals = {}
    add_up(totals, record(loss_before=2.0, loss_after=1.5, seconds={"model": 0.1, "sample": 0.0, "judge": 0.2}))
    add_up(totals, record(loss_before=1.5, loss_after=1.75, seconds={"judge": 0.2}))
    add_up(totals, AnnealRecord(step=9, strategy="direct", loss_before=1.0, fallback="not finite"))
    assert totals.keys() == {f"anneal_{name}" for name in TOTALS}
    assert totals["anneal_gain"] == pytest.approx(0.25)  # a record without one of the losses adds nothing
    assert totals["anneal_judge"] == pytest.approx(0.4) and totals["anneal_model"] == pytest.approx(0.1)
    assert (totals["anneal_calls"], totals["anneal_fallbacks"], totals["anneal_accepted"]) == (3, 1, 6)


def test_the_summary_is_a_table():
    assert summarize({}, None) == "no annealing step yet"
    totals = {"anneal_turn": 2}
    for one in (
        record(loss_before=2.0, loss_after=1.5),
        AnnealRecord(6, "qubo", sampler="exact", fallback="too hot"),
    ):
        add_up(totals, one)
    text = summarize(totals, one)
    told = ("2 (1 fell back)", "48, 3 accepted", "-0.5 in all", "qubo, exact", "too hot", "not finite", "whole run")
    for part in told:
        assert part in text
    rows = [line.split("  ") for line in text.splitlines()]
    assert len(rows) == 9 and all(name and not name.startswith(" ") for name, *_ in rows)
