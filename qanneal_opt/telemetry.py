"""What an annealing step did and what it cost, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AnnealRecord:
    """One annealing step; ``dataclasses.asdict`` of it goes straight to JSON.

    Attributes:
        step: completed optimizer steps before it.
        strategy: the step's name.
        variables: binary variables over which it searched.
        candidates: candidates judged by the true objective.
        predicted: change of the objective that the surrogate foresaw for what was accepted.
        actual: change of the objective by what was accepted, before the refit.
        accepted: candidates accepted.
        moved: weights that were changed by them.
        loss_before: the judged objective before.
        loss_after: the judged objective after, refit included.
        price_before: what of ``loss_before`` is a price of nonzero weights or of rules, an ``l0`` term.
        price_after: what of ``loss_after`` is.
        seconds: wall-clock by phase: ``model`` (gradients, curvature, refit), ``sample``, ``judge``. Asynchronous
            sampling counts as far as training waited for it.
        sampler: name of the sampler, empty where there is none.
        sampler_info: what the sampler tells of its last call.
        temperature: the last one used, in units of the objective.
        fallback: why nothing was annealed, empty where something was.
        pending: QUBOs that were with an asynchronous sampler as it ended.
        stale: answers that were dropped, as their weights' codes had changed or they were too old.
        qpu_access_time: seconds that a quantum annealer was occupied for the answers, stale ones included.
    """

    step: int
    strategy: str
    variables: int = 0
    candidates: int = 0
    predicted: float = 0.0
    actual: float = 0.0
    accepted: int = 0
    moved: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    price_before: float = 0.0
    price_after: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: {"model": 0.0, "sample": 0.0, "judge": 0.0})
    sampler: str = ""
    sampler_info: dict[str, Any] = field(default_factory=dict)
    temperature: float = 0.0
    fallback: str = ""
    pending: int = 0
    stale: int = 0
    qpu_access_time: float = 0.0


# What a summary adds up over all annealing steps; kept as plain numbers in param_groups, under these names.
TOTALS = ("calls", "candidates", "accepted", "moved", "fallbacks", "stale", "gain", "model", "sample", "judge", "qpu")
# What the whole run took, beside these.
RUN = ("wall", "cpu", "joules")


def add_up(totals: dict[str, Any], record: AnnealRecord) -> None:
    """Add a record to the running totals of :data:`TOTALS`."""
    before, after = record.loss_before, record.loss_after
    new = {
        "calls": 1,
        "candidates": record.candidates,
        "accepted": record.accepted,
        "moved": record.moved,
        "fallbacks": int(bool(record.fallback)),
        "stale": record.stale,
        "qpu": record.qpu_access_time,
        "gain": 0.0 if before is None or after is None else before - after,
        **{phase: record.seconds.get(phase, 0.0) for phase in ("model", "sample", "judge")},
    }
    for name in TOTALS:
        key = f"anneal_{name}"
        totals[key] = totals.get(key, 0) + new[name]


def summarize(
    totals: Mapping[str, Any],
    last: AnnealRecord | None,
    counters: str = "",
    watts_per_core: float | None = None,
    ledgers: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Give a short table of what annealing did, what it cost and what it was worth.

    Args:
        totals: running totals of :data:`TOTALS` and :data:`RUN`.
        last: the last record.
        counters: what joules were measured of.
        watts_per_core: for an estimate of energy.
        ledgers: of machines far away, by the names of samplers.
    """
    numbers = {name: totals.get(f"anneal_{name}", 0) for name in ("turn", *TOTALS, *RUN)}
    if not numbers["calls"]:
        return "no annealing step yet"
    phases = [numbers[phase] for phase in ("model", "sample", "judge")]
    fell = f" ({numbers['fallbacks']} fell back)" if numbers["fallbacks"] else ""
    rows = [
        ("annealing steps", f"{numbers['turn']}" + fell),
        ("candidates judged", f"{numbers['candidates']}, {numbers['accepted']} accepted"),
        ("weights moved", f"{numbers['moved']}"),
        ("objective within annealing", f"{-numbers['gain']:+.4g} in all"),
        ("seconds", "{:.2f} (model {:.2f}, sample {:.2f}, judge {:.2f})".format(sum(phases), *phases)),
    ]
    if numbers["stale"]:
        rows.insert(2, ("stale answers dropped", f"{numbers['stale']}"))
    rows.append(("whole run", "{cpu:.2f} s of CPU, {wall:.2f} s of wall clock, {qpu:.4g} s of QPU".format(**numbers)))
    if counters and math.isfinite(numbers["joules"]):
        rows.append(("energy, measured", f"{numbers['joules']:.4g} J ({counters}; all that the machine did)"))
    if watts_per_core is not None:
        joules = watts_per_core * numbers["cpu"]
        rows.append(("energy, estimated", f"{joules:.4g} J ({watts_per_core:g} W a core, CPU time alone)"))
    if last is not None:
        rows.append(("last objective", f"{last.loss_after:.4g}" if last.loss_after is not None else "not finite"))
        rows.append(("strategy, sampler", f"{last.strategy}, {last.sampler or 'none'}"))
        if last.fallback:
            rows.append(("last fallback", last.fallback))
    for name, ledger in (ledgers or {}).items():
        rows += [(f"ledger of {name}", text) for text in _ledger(ledger)]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _ledger(ledger: Mapping[str, Any]) -> list[str]:
    """Two lines of a ledger: what was asked for, and how it went."""
    broken = ledger["broken"] / ledger["chains"] if ledger["chains"] else 0.0
    return [
        "{calls} calls, {fallbacks} answered locally; {problems} problems, {reads} reads; "
        "{qpu_access_time:.4g} s of QPU, {charged:.4g} s charged".format(**ledger),
        f"{broken:.2%} of chains broken; "
        "{retries} retries, {failovers} failovers, {unanswered} unanswered".format(**ledger),
    ]
