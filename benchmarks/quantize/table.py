"""What the records say: tables, and a picture."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quantize.contenders import PAIRS
from benchmarks.quantize.measures import ratio
from benchmarks.rows import markdown

Record = dict[str, Any]
Panel = tuple[str, str, str]  # network, width, calibration
PARTS = ("calibration", "unseen")
BASELINE, FAIR = "gptq", "gptq + refit + bias"
LEGEND = """Ratios are of mean errors, with 95% bootstrap intervals over texts; a text's error is the mean over draws.
Where there are several calibrations, GPTQ and its variants stand with the one that serves them best on that data.
Layers: the mean over layers of the output's squared error in units of GPTQ's, on calibration and on unseen data; gain
kept: of what it is below 1. Seconds and MB: where nothing else is said, of runs that shared the machine and, their
seconds counted with each, statistics."""


def runs(records: Iterable[Record], *head: str) -> dict[str, list[Record]]:
    """By contender, the runs of all draws of one network, width and calibration."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if panel(record) == head:
            found.setdefault(record["contender"], []).append(record)
    return found


def panel(record: Record) -> Panel:
    """Network, width and calibration."""
    return record["subject"], record["width"], record["calibration"]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def layer_ratio(ours: Record, theirs: Record, part: str) -> float:
    """Mean over layers of one's objective in units of the other's."""
    pairs = zip(ours["layers"][part], theirs["layers"][part])
    return _mean(mine / other for mine, other in pairs if other > 0)


def layers_above(ours: Sequence[Record], theirs: Sequence[Record]) -> tuple[int, int]:
    """How many layers of all draws end above the others' on calibration data, and of how many."""
    pairs = [pair for a, b in zip(ours, theirs) for pair in zip(a["layers"]["calibration"], b["layers"]["calibration"])]
    return sum(mine > other for mine, other in pairs), len(pairs)


def _errors(mine: Sequence[Record], kind: str) -> NDArray[np.float64]:
    """Each text's error, mean over draws."""
    return np.mean([record["errors"][kind] for record in mine], 0)


def against(records: Sequence[Record], head: Panel, contender: str, other: str, kind: str) -> str:
    """What one's error is of the other's, with its interval; GPTQ stands with its best calibration."""
    calibrations = dict.fromkeys(record["calibration"] for record in records if panel(record)[:2] == head[:2])
    heads = [(*head[:2], name) for name in calibrations] if other.startswith("gptq") else [head]
    mine = runs(records, *head).get(contender, [])
    found = [common(mine, runs(records, *place).get(other, [])) for place in heads]
    errors = [(_errors(ours, kind), _errors(theirs, kind)) for ours, theirs in found if theirs]
    if not errors:
        return ""
    value, low, high = ratio(*min(errors, key=lambda pair: float(pair[1].mean())))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def common(ours: Sequence[Record], theirs: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Both on the draws that both have, in the same order."""
    others = {record["draw"]: record for record in theirs}
    mine = [record for record in ours if record["draw"] in others]
    return mine, [others[record["draw"]] for record in mine]


def _rows(records: Sequence[Record], head: Panel) -> Iterable[list[str]]:
    found = runs(records, *head)
    for name, mine in found.items():
        row = [name]
        for kind, means in mine[0]["judged"].items():
            errors = [record["judged"][kind]["mse"] for record in mine]
            row.append(f"{_mean(errors):.4f} ({min(errors):.4f} to {max(errors):.4f})")
            row += [against(records, head, name, other, kind) for other in (BASELINE, FAIR)]
            row += [f"{_mean(r['judged'][kind][key] for r in mine):.4f}" for key in means if key != "mse"]
        pairs = list(zip(*common(mine, found.get(BASELINE, []))))
        layers = [_mean(layer_ratio(*pair, part) for pair in pairs) for part in PARTS] if pairs else []
        row += [f"{value:.3f}" for value in layers] or ["", ""]
        row.append(f"{(1 - layers[1]) / (1 - layers[0]):.3f}" if layers and layers[0] < 1 else "")
        yield [*row, *_cost(mine)]


def _cost(mine: Sequence[Record]) -> tuple[str, str]:
    """Seconds and MB: of the runs that had the machine for themselves, if there are any."""
    alone = [record for record in mine if record["alone"]]
    memory = [record["added_mb"] for record in alone or mine if record["added_mb"] is not None]
    seconds = f"{_mean(record['wall_s'] for record in alone or mine):.1f}"
    note = f" alone, {alone[0]['threads']} threads" if alone else ""
    return seconds + note, f"{max(memory):.0f}" if memory else ""


def _header(record: Record) -> list[str]:
    header = ["contender"]
    for kind, means in record["judged"].items():
        header += [f"{kind}: MSE (least to most)", "/ gptq", "/ gptq + refit + bias"]
        header += [key for key in means if key != "mse"]
    return [*header, "layers / gptq", "on unseen data", "gain kept", "seconds", "MB added"]


def tables(records: Sequence[Record]) -> str:
    """For each network, width and calibration a table of contenders, and one of what ours is to each of the others."""
    parts = [LEGEND + "\n"]
    for head in dict.fromkeys(panel(record) for record in records):
        found = runs(records, *head)
        first = next(iter(found.values()))
        draws = len(dict.fromkeys(record["draw"] for mine in found.values() for record in mine))
        mean = f"mean of {draws} draws" if draws > 1 else "one draw"
        few = [f"{name} of {len(mine)}" for name, mine in found.items() if len(mine) < draws]
        note = f"; {', '.join(few)}, and its ratios on the same" if few else ""
        parts.append(f"**{', '.join(head[:2])}, calibrated on {head[2]}**, {mean}{note}\n")
        parts.append(markdown(_header(first[0]), _rows(records, head)) + "\n")
        rows = []
        for ours, theirs in PAIRS:
            for kind in first[0]["judged"] if {ours, theirs} <= set(found) else ():
                rows.append([ours, theirs, kind, against(records, head, ours, theirs, kind)])
        if rows:
            parts.append(markdown(["MSE of", "in units of", "data", "ratio (95% interval)"], rows) + "\n")
        if {"fast", "ours without Kronecker"} <= set(found):
            above, of = layers_above(*common(found["ours without Kronecker"], found["fast"]))
            parts.append(f"Layers where annealing without Kronecker ends above coordinate descent: {above} of {of}.\n")
    return "\n".join(parts)


def plot(records: Sequence[Record], path: Path) -> None:
    """Each contender's error in units of GPTQ's, a panel for each network and width, a mark for each draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    panels = list(dict.fromkeys(panel(record) for record in records))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(2.6 + 3 * len(panels), 5), sharey=True, squeeze=False)
    names = list(dict.fromkeys(record["contender"] for record in records))
    for axis, head in zip(axes[0], panels):
        found = runs(records, *head)
        base = {record["draw"]: record["judged"] for record in found.get(BASELINE, [])}
        for kind, marker in zip(next(iter(found.values()))[0]["judged"], "o^"):
            points = [
                (record["judged"][kind]["mse"] / base[record["draw"]][kind]["mse"], names.index(name))
                for name, mine in found.items()
                for record in mine
                if record["draw"] in base
            ]
            axis.plot(*zip(*points) if points else ([], []), marker, label=kind, alpha=0.7, markersize=5)
        axis.axvline(1.0, color="grey", linewidth=0.8)
        axis.set_title("\n".join(head), fontsize=9)
        axis.set(xlabel="MSE / GPTQ's", xscale="log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
