"""Tables from result files: means with confidence intervals, paired tests, cost, ratios to the baseline."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import BadInput
from benchmarks.rows import markdown

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADER = (
    "contender",
    "solved",
    "loss",
    "x baseline (p)",
    "{metric}",
    "+ baseline (p)",
    "CPU s",
    "x baseline",
    "ge",
)

Record = dict[str, Any]


def present() -> list[Path]:
    """The result files of tasks; tuning, the race of solvers and other measurements leave other records."""
    paths = (harness.RESULTS / f"{name}.jsonl" for name in harness.task_names())
    return [path for path in paths if path.exists()]


def read(paths: Iterable[Path]) -> list[Record]:
    """All records of some JSON-lines files."""
    records: list[Record] = []
    for path in paths:
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise BadInput(f"Invalid result file: {path}: {error.strerror}") from None
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                record["task"], record["contender"], record["seed"], record["loss"]
            except (ValueError, KeyError, TypeError):
                raise BadInput(f"Invalid result file: {path}: line {number} is no record of a run") from None
            records.append(record)
    if not records:
        raise BadInput("Invalid result files: no records; `python -m benchmarks all` makes them")
    return records


@dataclass(frozen=True)
class Paired:
    """Two contenders on the same seeds: mean difference, ratio of means, two-sided p of two paired tests."""

    difference: float
    ratio: float
    wilcoxon: float
    t_test: float


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Paired:
    """Wilcoxon signed-rank (makes no assumption on the spread) and paired t. Equal everywhere: p = 1."""
    from scipy.stats import ttest_rel, wilcoxon

    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    ratio = float(a.mean() / b.mean()) if b.mean() else float("nan")
    if len(a) < 2 or np.all(a == b):
        return Paired(float((a - b).mean()), ratio, 1.0, 1.0)
    constant = bool(np.ptp(a - b) == 0)
    t_test = 0.0 if constant else float(ttest_rel(a, b).pvalue)
    return Paired(float((a - b).mean()), ratio, float(wilcoxon(a, b).pvalue), t_test)


def half_width(values: Sequence[float]) -> float:
    """Half of the 95% confidence interval of a mean (Student's t); nan for one value."""
    from scipy.stats import t

    n = len(values)
    return float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3g}"


def _mean(values: Sequence[float]) -> str:
    return f"{_number(float(np.mean(values)))} ± {_number(half_width(values))}"


def by_seed(records: Iterable[Record]) -> dict[tuple[str, str], dict[int, Record]]:
    """Records by (task, contender), then by seed; a run that is there twice is an error."""
    table: dict[tuple[str, str], dict[int, Record]] = {}
    for record in records:
        runs = table.setdefault((record["task"], record["contender"]), {})
        if record["seed"] in runs:
            where = f"{record['task']}, {record['contender']}, seed {record['seed']}"
            raise BadInput(f"Invalid result files: two records of {where}")
        runs[record["seed"]] = record
    return table


def _row(name: str, runs: dict[int, Record], base: dict[int, Record]) -> list[str]:
    def column(field: str) -> list[float]:
        return [float(run[field]) for run in runs.values()]

    def against(field: str) -> Paired:
        seeds = sorted(runs.keys() & base.keys())
        return paired([runs[seed][field] for seed in seeds], [base[seed][field] for seed in seeds])

    row = [
        name,
        f"{int(sum(column('solved')))}/{len(runs)}",
        _mean(column("loss")),
        "",
        _mean(column("metric")),
        "",
    ]
    row += [_number(float(np.mean(column("cpu_s")))), "", _number(float(np.mean(column("ge"))))]
    if runs is not base and runs.keys() & base.keys():
        loss, metric = against("loss"), against("metric")
        row[3] = f"{_number(loss.ratio)} ({_number(loss.wilcoxon)})"
        row[5] = f"{metric.difference:+.3g} ({_number(metric.wilcoxon)})"
        row[7] = _number(against("cpu_s").ratio)
    return row


def tables(records: Sequence[Record]) -> str:
    """A markdown section for each task: baseline first, the others in the order of the records."""
    groups = by_seed(records)
    sections = []
    for task in dict.fromkeys(record["task"] for record in records):
        first = next(record for record in records if record["task"] == task)
        baseline = first.get("baseline", "")
        base = groups.get((task, baseline), {})
        names = [name for of, name in groups if of == task]
        names.sort(key=lambda name: name != baseline)
        header = [cell.format(metric=first.get("metric_name", "metric")) for cell in HEADER]
        rows = [_row(name, groups[task, name], base) for name in names]
        sections.append(f"**{task}** (baseline: {baseline})\n\n{markdown(header, rows)}")
    legend = "Mean ± half of the 95% confidence interval; p: Wilcoxon's signed-rank test, paired by seed."
    return "\n\n".join([*sections, legend])


def comparison(before: Sequence[Record], after: Sequence[Record]) -> str:
    """What changed from one result file to another, for each contender that both have on common seeds."""
    old, new = by_seed(before), by_seed(after)
    rows: list[list[str]] = []
    for key in old:
        seeds = sorted(old[key].keys() & new.get(key, {}).keys())
        for field in ("loss", "metric", "cpu_s", "ge") if seeds else ():
            a, b = ([float(side[key][seed][field]) for seed in seeds] for side in (old, new))
            test = paired(b, a)
            cells = [_mean(a), _mean(b), _number(test.ratio), _number(test.wilcoxon), _number(test.t_test)]
            rows.append([*key, field, str(len(seeds)), *cells])
    if not rows:
        raise BadInput("Invalid result files: no contender of one task and seed is in both")
    return markdown(["task", "contender", "field", "seeds", "A", "B", "B / A", "p Wilcoxon", "p t-test"], rows)


def insert(readme: str, table: str) -> str:
    """The README with everything between its two markers replaced by `table`."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise BadInput(f"Invalid README: it needs one {BEGIN} and after it one {END}")
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
