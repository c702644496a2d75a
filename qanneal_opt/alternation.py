"""Annealing steps in turn with gradient steps: when one is due, within which span and budget, and what it leaves."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.checks import check_int
from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.energy import Meter
from qanneal_opt.guards import annealed_buffers
from qanneal_opt.objective import Objective
from qanneal_opt.schedule import Schedule
from qanneal_opt.telemetry import AnnealRecord, add_up
from qanneal_opt.view import Best, Fallback, Step, View

KEPT_RECORDS = 10_000


class Alternation:
    """The annealing side of an optimizer: its steps, and the span that they are in.

    Counters are kept by the optimizer, in the ``memory`` that methods are handed, so that every kind of
    checkpoint keeps them.

    Args:
        objective: the loss that annealing judges moves by.
        annealing: one annealing step object, or a list tried in turn, one each time.
        schedule: when to anneal.
        seed: every annealing step draws from a generator seeded by it and by its own number.

    Attributes:
        steps: the annealing step objects.
        records: of the last 10,000 annealing steps.
        best: the best state of the schedule's present span.
        meter: of what the run takes, once there was a step.

    Raises:
        TypeError: if an argument is of a kind that cannot serve.
        ValueError: if ``seed`` is negative.
    """

    def __init__(
        self, objective: Objective | None, annealing: Step | Sequence[Step] | None, schedule: Schedule, seed: int
    ) -> None:
        if objective is not None and not isinstance(objective, Objective):
            raise TypeError(f"Invalid objective: {type(objective).__name__}; a qanneal_opt.Objective is needed")
        if not (hasattr(schedule, "due") and hasattr(schedule, "span")) or isinstance(schedule, type):
            raise TypeError(f"Invalid schedule: {schedule!r}; Every(...) or OnPlateau(...) is needed")
        check_int("seed", seed, 0)
        self.objective = objective
        self.steps = _steps(annealing)
        self.schedule = schedule
        self.seed = seed
        self.records: deque[AnnealRecord] = deque(maxlen=KEPT_RECORDS)
        self.best = Best()
        self.meter: Meter | None = None
        self._ticked: float | None = None  # when the last gradient step ended, where there is a budget

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "meter": None, "_ticked": None}  # moments of this process

    @property
    def anneals(self) -> bool:
        """Whether there is anything to alternate with."""
        return self.objective is not None and bool(self.steps)

    @property
    def buffers(self) -> list[Tensor]:
        """The buffers of the objective's model that annealing moves."""
        return annealed_buffers(self.objective.model) if self.objective is not None else []

    @property
    def ledgers(self) -> dict[str, dict[str, Any]]:
        """What machines far away were asked for and cost, by the names of the samplers that keep a ledger."""
        samplers: list[Any] = [getattr(step, "sampler", None) for step in self.steps]
        told: dict[str, dict[str, Any]] = {}
        same: Counter[str] = Counter()
        for seat in {id(seat): seat for seat in samplers if hasattr(seat, "ledger")}.values():
            same[seat.name] += 1
            number = f" {same[seat.name]}" if same[seat.name] > 1 else ""
            told[seat.name + number] = seat.ledger.state_dict()
        return told

    def after(self, look: Callable[[], View], memory: dict[str, Any]) -> None:
        """Count a completed gradient step, and anneal if that is due; at a span's end put its best state back.

        Args:
            look: gives the weights as an annealing step sees them; asked only when one is due.
            memory: counters and running totals.
        """
        assert self.objective is not None
        objective, schedule = self.objective, self.schedule
        memory["anneal_step"] += 1
        if self.meter is None:
            self.measure(memory)
        now = time.perf_counter()
        if schedule.budget is not None:
            memory["anneal_clock"] += 0.0 if self._ticked is None else now - self._ticked
        arrived = [step for step in self._pending() if step.arrived(memory["anneal_step"])]
        if arrived:
            self._land(arrived, look(), memory)
        if schedule.due(memory["anneal_step"], lambda: float(objective()), memory):
            view, span = look(), schedule.span(memory["anneal_step"])
            if span is not None:
                view.span, view.reference, view.best = span, memory["anneal_reference"], self.best
            spent = memory["anneal_model"] + memory["anneal_sample"] + memory["anneal_judge"]
            if schedule.budget is None or spent <= schedule.budget * memory["anneal_clock"]:
                self.anneal(view, memory)
            if span is not None and span.round == span.rounds - 1:
                self.finish(view, memory)
                self.best = Best()
                memory["anneal_reference"] = math.nan
        if schedule.budget is not None:
            self._ticked = now

    def measure(self, memory: dict[str, Any]) -> None:
        """Add to the totals what the run took since the last time; the first time begins it."""
        if self.meter is None:
            self.meter = Meter()
            return
        for name, amount in self.meter.lap().items():
            memory[f"anneal_{name}"] += amount

    def anneal(self, view: View, memory: dict[str, Any]) -> AnnealRecord:
        """Take the next annealing step; where the view is in no span, it ends at the best state it saw.

        Raises:
            ValueError: if there is no objective or no annealing step.
        """
        if self.objective is None or not self.steps:
            name = "objective" if self.objective is None else "annealing"
            raise ValueError(f"Invalid {name}: None; anneal() needs an objective and an annealing step")
        if self.meter is None:
            self.measure(memory)
        step = self.steps[memory["anneal_turn"] % len(self.steps)]
        record = self._take(step.name, step, view, memory)
        memory["anneal_turn"] += 1
        if view.span is None:
            view.restore(view.best)
        else:
            memory["anneal_reference"] = view.reference
        return record

    def finish(self, view: View, memory: dict[str, Any]) -> None:
        """Let steps judge what they have under way, and put back the best state of the present span."""
        self._land(self._pending(), view, memory)
        view.restore(self.best)

    def _pending(self) -> list[Any]:
        """The steps that have something under way."""
        return [step for step in self.steps if getattr(step, "pending", 0)]

    def _land(self, steps: Sequence[Any], view: View, memory: dict[str, Any]) -> None:
        """Let steps judge what they have under way; outside a span that ends at the best state it saw."""
        inside = not math.isnan(memory.get("anneal_reference", math.nan))
        if inside:
            view.best = self.best
        for step in steps:
            self._take(step.name, step.finish, view, memory)
        if not inside:
            view.restore(view.best)

    def _take(self, name: str, step: Callable[..., AnnealRecord], view: View, memory: dict[str, Any]) -> AnnealRecord:
        """Call a step with a generator of its own, and keep its record."""
        assert self.objective is not None
        seed = int(np.random.SeedSequence([self.seed, memory["anneal_calls"]]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(seed)
        try:
            with self.objective.frozen():
                record = step(view, self.objective, generator)
        except Fallback as reason:
            record = AnnealRecord(memory["anneal_step"], name, fallback=str(reason))
        except BaseException:
            for encoded in view.encoded:
                if isinstance(encoded, EncodedLevels):
                    encoded.write()  # whatever was under way, codes and weights agree
            raise
        self.records.append(record)
        add_up(memory, record)
        self.measure(memory)
        return record


def _steps(annealing: Step | Sequence[Step] | None) -> list[Step]:
    if annealing is None:
        return []
    steps: list[Any] = list(annealing) if isinstance(annealing, (list, tuple)) else [annealing]
    for step in steps:
        if not callable(step) or not hasattr(step, "name") or isinstance(step, type):
            raise TypeError(f"Invalid annealing: {step!r}; a step object, such as QuboStep(), is needed")
    return steps
