"""Tables of results, made from benchmarks/results when the pages are built: no number in them is typed.

A page gives the places: a line `<!-- results:verdicts -->` becomes the table of what was won and lost,
`<!-- results:tasks -->` what the tasks are, `<!-- results:tables -->` a table for each task, and
`<!-- results:rules -->` one for the tasks of rules. Every other measurement has a name in `MEASUREMENTS`:
`<!-- results:share -->` becomes the table of `python -m benchmarks.share`.
"""

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

from benchmarks import harness, mixed_table, overlap, overview, report, share, wrong_temperature
from benchmarks.prune import table as pruning
from benchmarks.quantize import beam, reference
from benchmarks.quantize import table as quantize
from benchmarks.rows import markdown, read
from benchmarks.solvers import table as solvers
from benchmarks.solvers import throughput

logger = logging.getLogger(__name__)

MEASUREMENTS: dict[str, tuple[Callable[..., str], Path]] = {
    "mixed_linear": (mixed_table.table, harness.RESULTS / "mixed_linear.jsonl"),
    "mixed_thresholds": (mixed_table.table, harness.RESULTS / "mixed_thresholds.jsonl"),
    "overlap": (overlap.table, overlap.OUTPUT),
    "prune": (pruning.tables, harness.RESULTS / "prune.jsonl"),
    "quantize": (quantize.tables, harness.RESULTS / "quantize.jsonl"),
    "quantize_beam": (beam.table, beam.OUTPUT),
    "quantize_reference": (reference.table, reference.OUTPUT),
    "share": (share.table, share.OUTPUT),
    "solvers": (solvers.tables, harness.RESULTS / "solvers.jsonl"),
    "throughput": (throughput.table, throughput.OUTPUT),
    "wrong_temperature": (wrong_temperature.table, wrong_temperature.OUTPUT),
}
"""Of each its table, a function of the rows of its file."""
OURS = "ours"
LEVEL = 0.05  # two-sided, for each comparison by itself
NONE = "*No results are in this copy of the repository; `python -m benchmarks all` makes them.*"
HEADER = ("task", "ours against", "seeds", "loss", "ratio (p)", "metric", "difference (p)", "CPU time")


def records() -> list[report.Record]:
    """All committed results; none is fine."""
    paths = report.present()
    return report.read(paths) if paths else []


def times(test: report.Paired) -> str:
    """The ratio of means in words: the others' mean may be 0."""
    if math.isnan(test.ratio):
        return "×∞" if test.difference else "both 0"
    return f"×{test.ratio:.3g}"


def verdict(test: report.Paired, p: float, lower_wins: bool) -> str:
    """In a word, what the seeds tell: ours is better, worse, or neither can be told."""
    if not p < LEVEL:
        return "unresolved"
    return "won" if (test.difference < 0) == lower_wins else "lost"


def rows(found: Sequence[report.Record]) -> Iterator[list[str]]:
    """One row for each task and contender that `ours` shares seeds with."""
    groups = report.by_seed(found)
    for (task, rival), theirs in groups.items():
        mine = groups.get((task, OURS), {})
        seeds = sorted(mine.keys() & theirs.keys())
        if rival == OURS or not seeds:
            continue

        def against(field: str) -> report.Paired:
            return report.paired([mine[s][field] for s in seeds], [theirs[s][field] for s in seeds])  # noqa: B023

        loss, metric, cpu = against("loss"), against("metric"), against("cpu_s")
        yield [
            task,
            rival,
            str(len(seeds)),
            verdict(loss, loss.wilcoxon, lower_wins=True),
            f"{times(loss)} ({loss.wilcoxon:.2g})",
            verdict(metric, metric.wilcoxon, lower_wins=False),
            f"{metric.difference:+.3g} ({metric.wilcoxon:.2g})",
            f"×{cpu.ratio:.2g}",
        ]


def verdicts(found: Sequence[report.Record]) -> str:
    """The table of what was won and lost."""
    return markdown(HEADER, rows(found))


def tasks() -> str:
    """A definition of each task: the docstring of its file."""
    parts = []
    for name in harness.task_names():
        source = Path(harness.ROOT, "benchmarks", "tasks", f"{name}.py").read_text(encoding="utf-8")
        first, _, rest = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")
        body = rest.replace("\n", "\n  ")
        parts.append(f"**{name}**\n: {' '.join(first.split())}" + (f"\n\n  {body}" if rest else ""))
    return "\n\n".join(parts)


def measured(name: str) -> str:
    """The table of a measurement beside the tasks, if its rows are there."""
    table, path = MEASUREMENTS[name]
    return table(read(path)) if path.exists() else NONE


def insert(app: Sphinx, page: str, source: list[str]) -> None:
    """Fill in a page's tables."""
    if "<!-- results:" not in source[0]:
        return
    found = records()
    if not found:
        logger.info("no benchmark results to show in %s", page)
    tables = {"verdicts": verdicts, "tables": report.tables, "rules": overview.rules}
    for name, make in tables.items():
        source[0] = source[0].replace(f"<!-- results:{name} -->", make(found) if found else NONE)
    source[0] = source[0].replace("<!-- results:tasks -->", tasks())
    for name in MEASUREMENTS:
        source[0] = source[0].replace(f"<!-- results:{name} -->", measured(name))


def fresh(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Read pages of results at every build: what they show is not in their own files."""
    return [page for page in env.found_docs if "<!-- results:" in Path(env.doc2path(page)).read_text(encoding="utf-8")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Fill in tables as pages are read."""
    app.connect("source-read", insert)
    app.connect("env-get-outdated", fresh)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
