"""Annealing steps in turn with gradient steps: when one is due, within which span and budget, and what it leaves."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from qanneal_opt.encoding.levels import EncodedLevels
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
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"Invalid seed: {seed}; an int of at least 0 is needed")
        self.objective = objective
        self.steps = _steps(annealing)
        self.schedule = schedule
        self.seed = seed
        self.records: deque[AnnealRecord] = deque(maxlen=KEPT_RECORDS)
        self.best = Best()
        self._ticked: float | None = None  # when the last gradient step ended, where there is a budget

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_ticked": None}  # a moment of this process

    @property
    def anneals(self) -> bool:
        """Whether there is anything to alternate with."""
        return self.objective is not None and bool(self.steps)

    @property
    def ledgers(self) -> dict[str, dict[str, Any]]:
        """What machines far away were asked for and cost, by the names of the samplers that keep a ledger."""
        seats: list[Any] = [getattr(step, "sampler", None) for step in self.steps]
        return {seat.name: seat.ledger.state_dict() for seat in seats if hasattr(seat, "ledger")}

    def after(self, look: Callable[[], View], memory: dict[str, Any]) -> None:
        """Count a completed gradient step, and anneal if that is due; at a span's end put its best state back.

        Args:
            look: gives the weights as an annealing step sees them; asked only when one is due.
            memory: counters and running totals.
        """
        assert self.objective is not None
        objective, schedule = self.objective, self.schedule
        memory["anneal_step"] += 1
        now = time.perf_counter()
        if schedule.budget is not None:
            memory["anneal_clock"] += 0.0 if self._ticked is None else now - self._ticked
        if schedule.due(memory["anneal_step"], lambda: float(objective()), memory):
            view, span = look(), schedule.span(memory["anneal_step"])
            if span is not None:
                view.span, view.reference, view.best = span, memory["anneal_reference"], self.best
            spent = memory["anneal_model"] + memory["anneal_sample"] + memory["anneal_judge"]
            if schedule.budget is None or spent <= schedule.budget * memory["anneal_clock"]:
                self.anneal(view, memory)
            if span is not None and span.round == span.rounds - 1:
                view.restore(self.best)
                self.best = Best()
                memory["anneal_reference"] = math.nan
        if schedule.budget is not None:
            self._ticked = now

    def anneal(self, view: View, memory: dict[str, Any]) -> AnnealRecord:
        """Take the next annealing step; where the view is in no span, it ends at the best state it saw.

        Raises:
            ValueError: if there is no objective or no annealing step.
        """
        if self.objective is None or not self.steps:
            name = "objective" if self.objective is None else "annealing"
            raise ValueError(f"Invalid {name}: None; anneal() needs an objective and an annealing step")
        number = memory["anneal_calls"]
        step = self.steps[number % len(self.steps)]
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(seed)
        try:
            with self.objective.frozen():
                record: AnnealRecord = step(view, self.objective, generator)
        except Fallback as reason:
            record = AnnealRecord(memory["anneal_step"], step.name, fallback=str(reason))
        except BaseException:
            for encoded in view.encoded:
                if isinstance(encoded, EncodedLevels):
                    encoded.write()  # whatever was under way, codes and weights agree
            raise
        if view.span is None:
            view.restore(view.best)
        else:
            memory["anneal_reference"] = view.reference
        self.records.append(record)
        add_up(memory, record)
        return record


def _steps(annealing: Step | Sequence[Step] | None) -> list[Step]:
    if annealing is None:
        return []
    steps: list[Any] = list(annealing) if isinstance(annealing, (list, tuple)) else [annealing]
    for step in steps:
        if not callable(step) or not hasattr(step, "name") or isinstance(step, type):
            raise TypeError(f"Invalid annealing: {step!r}; a step object, such as QuboStep(), is needed")
    return steps
