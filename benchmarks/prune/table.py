"""What the records say: a table, and a picture."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.prune.run import Record
from benchmarks.rows import markdown

BARS = ("OBS with update", "magnitude")  # what losses are compared with
HEADER = ("contender", "loss, pruned", "loss, finetuned (sd)", *(f"x {bar} (p)" for bar in BARS), "test", "CPU s")


def grouped(records: Sequence[Record]) -> dict[float, dict[str, dict[int, Record]]]:
    """Reported records by density, contender and seed."""
    found: dict[float, dict[str, dict[int, Record]]] = {}
    for record in records:
        if record["phase"] == "report":
            found.setdefault(record["density"], {}).setdefault(record["contender"], {})[record["seed"]] = record
    return found


def tables(records: Sequence[Record]) -> str:
    """A Markdown table a density: means over seeds; ratios of means, p of Wilcoxon's signed-rank test."""
    parts = []
    for density, contenders in grouped(records).items():
        seeds = len(next(iter(contenders.values())))
        dense = statistics.fmean(r["accuracy_dense"] for r in next(iter(contenders.values())).values())
        parts += [f"**{1 - density:.0%} dropped**, {seeds} seeds; test accuracy before {dense:.3f}", ""]
        lines = []
        for name, mine in contenders.items():
            losses = [r["loss"] for r in mine.values()]
            spread = statistics.stdev(losses) if len(losses) > 1 else 0.0
            ratios = [_against(mine, contenders.get(bar, {})) for bar in BARS]
            mean = {
                key: statistics.fmean(r[key] for r in mine.values()) for key in ("loss_pruned", "accuracy", "cpu_s")
            }
            cells = [name, f"{mean['loss_pruned']:.3g}", f"{statistics.fmean(losses):.3g} ({spread:.2g})", *ratios]
            lines.append([*cells, f"{mean['accuracy']:.3f}", f"{mean['cpu_s']:.1f}"])
        parts += [markdown(HEADER, lines), ""]
    return "\n".join(parts)


def _against(mine: dict[int, Record], theirs: dict[int, Record]) -> str:
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return "-"
    test = report.paired([mine[s]["loss"] for s in seeds], [theirs[s]["loss"] for s in seeds])
    return f"{test.ratio:.3g} ({test.wilcoxon:.2g})" if mine is not theirs else "1"


def plot(records: Sequence[Record], path: Path) -> None:
    """Training loss after finetuning, a point a seed and a bar at the mean, one panel a density."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = grouped(records)
    figure, axes = pyplot.subplots(1, len(found), figsize=(12, 4.2), sharey=True, layout="constrained", squeeze=False)
    for axis, (density, contenders) in zip(axes[0], found.items()):
        for k, mine in enumerate(contenders.values()):
            losses = [record["loss"] for record in mine.values()]
            axis.plot(losses, [k] * len(losses), "o", alpha=0.35, color=f"C{k}")
            axis.plot(statistics.fmean(losses), k, "|", markersize=18, color=f"C{k}")
        axis.set_yticks(range(len(contenders)), contenders)
        axis.set(xscale="log", title=f"{1 - density:.0%} dropped", xlabel="training loss, finetuned")
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].invert_yaxis()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
