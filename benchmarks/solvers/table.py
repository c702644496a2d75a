"""What the records say: a table, and a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import markdown
from benchmarks.solvers.race import GOALS, Record, goal, hits, time_to, tts, wilson

HEADER = ("instance", "solver", "setting", "TTS99 (95% interval; reads that hit)")
TITLES = {"near": "to 0.1%", "best": "to the best known"}


def reported(records: Sequence[Record], name: str) -> dict[tuple[str, str], Record]:
    """By instance and solver, the record of the setting that was chosen for a goal."""
    return {(r["instance"], r["solver"]): r for r in records if name in r["goals"]}


def cell(record: Record, name: str) -> str:
    """TTS99 in CPU seconds, its 95% interval (of p alone), and reads that reached the goal of all."""
    target, reads = goal(record["best"], name), len(record["energies"])
    count = hits(record, target)
    low, high = (_short(tts(record["read_s"], p)) for p in reversed(wilson(count, reads)))
    return f"{_short(time_to(record, target))} ({low} to {high}; {count}/{reads})"


def _short(seconds: float) -> str:
    return "inf" if math.isinf(seconds) else f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"


def tables(records: Sequence[Record]) -> str:
    """A Markdown table a goal, with a line for each instance and solver."""
    parts = []
    for name in GOALS:
        lines = []
        for (instance, solver), record in reported(records, name).items():
            setting = ", ".join(f"{k} {v}" for k, v in record["setting"].items()) or "default"
            lines.append([instance, solver, setting, cell(record, name)])
        parts += [f"**TTS99 {TITLES[name]}**, CPU seconds, one thread", "", markdown(HEADER, lines), ""]
    return "\n".join(parts)


def plot(records: Sequence[Record], path: Path) -> None:
    """TTS99 of each solver over the instances, one panel a goal; what never hit is left out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    instances = list(dict.fromkeys(record["instance"] for record in sorted(records, key=lambda record: record["n"])))
    solvers = list(dict.fromkeys(record["solver"] for record in records))
    figure, axes = pyplot.subplots(1, len(GOALS), figsize=(13, 4.2), sharey=True)
    for axis, name in zip(axes, GOALS):
        found = reported(records, name)
        for k, solver in enumerate(solvers):
            pairs = [(i, found[place, solver]) for i, place in enumerate(instances) if (place, solver) in found]
            times = [(i, time_to(record, goal(record["best"], name))) for i, record in pairs]
            shown = [(i + 0.06 * (k - len(solvers) / 2), t) for i, t in times if math.isfinite(t)]
            ours = solver in ("annealer", "tabu")
            axis.plot(*zip(*shown) if shown else ([], []), "o" if ours else "x", label=solver)
        axis.set(yscale="log", title=f"TTS99 {TITLES[name]}")
        axis.set_xticks(range(len(instances)), instances, rotation=35)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("CPU seconds, one thread")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
