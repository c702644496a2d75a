"""What the README shows: a table for each task, but one for all tasks of rules."""

from collections.abc import Mapping, Sequence
from statistics import mean

from benchmarks import report
from benchmarks.rows import markdown

RULES = (
    "rules_multiplexer",
    "rules_multiplexer_300",
    "rules_noisy",
    "rules_weighted",
    "rules_dnf",
    "automaton",
    "automaton_noisy",
    "mixed_thresholds",
    "mixed_linear",
)
LEGEND = "Seeds solved, mean CPU seconds of a seed and, in brackets, those of the slowest one."


def rules(records: Sequence[report.Record]) -> str:
    """Which contender solves how many seeds of each task of rules, and at what cost; empty without such rows."""
    groups = report.by_seed(record for record in records if record["task"] in RULES)
    tasks = [task for task in RULES if any(of == task for of, _ in groups)]
    names = dict.fromkeys(name for task in tasks for of, name in groups if of == task)
    lines = [[name, *(_cell(groups.get((task, name), {})) for task in tasks)] for name in names]
    return f"{markdown(['contender', *tasks], lines)}\n\n{LEGEND}" if tasks else ""


def readme(records: Sequence[report.Record]) -> str:
    """All of it."""
    others = [record for record in records if record["task"] not in RULES]
    return "\n\n".join(part for part in (report.tables(others) if others else "", rules(records)) if part)


def _cell(runs: Mapping[int, report.Record]) -> str:
    seconds = [float(run["cpu_s"]) for run in runs.values()]
    if not seconds:
        return ""
    return f"{sum(bool(run['solved']) for run in runs.values())}/{len(runs)}, {mean(seconds):.2g} ({max(seconds):.2g})"
