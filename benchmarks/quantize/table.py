"""What the records say: tables, and a picture."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]
BASELINE, FAIR = "gptq", "gptq + refit + bias"


def read(path: Path) -> list[Record]:
    """The records of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def runs(records: Iterable[Record], subject: str, width: str) -> dict[str, list[Record]]:
    """By contender, the runs of all draws."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if (record["record"], record["subject"], record["width"]) == ("run", subject, width):
            found.setdefault(record["contender"], []).append(record)
    return found


def kinds(record: Record) -> list[str]:
    """The kinds of data that a run was judged by."""
    return [name for name, value in record.items() if isinstance(value, dict) and "mse" in value]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def layer_ratio(ours: Record, theirs: Record, part: str) -> float:
    """Mean over layers of one's objective in units of the other's."""
    pairs = zip(ours["layers"][part], theirs["layers"][part])
    return _mean(mine / other for mine, other in pairs if other > 0)


def _rows(found: dict[str, list[Record]]) -> Iterable[list[str]]:
    base, fair = found.get(BASELINE), found.get(FAIR)
    for name, mine in found.items():
        row = [name]
        for kind in kinds(mine[0]):
            errors = [record[kind]["mse"] for record in mine]
            row.append(f"{_mean(errors):.4f} ({min(errors):.4f} to {max(errors):.4f})")
            for other in (base, fair):
                row.append("" if other is None else f"{_mean(errors) / _mean(r[kind]['mse'] for r in other):.3f}")
            others = [key for key in mine[0][kind] if key != "mse"]
            row += [f"{_mean(record[kind][key] for record in mine):.4f}" for key in others]
        for part in ("calibration", "unseen"):
            same = base is not None and len(base) == len(mine)
            row.append(f"{_mean(layer_ratio(a, b, part) for a, b in zip(mine, base)):.3f}" if same and base else "")
        memory = [record["added_mb"] for record in mine if record["added_mb"] is not None]
        row.append(f"{_mean(record['wall_s'] for record in mine):.1f}")
        yield [*row, f"{max(memory):.0f}" if memory else ""]


def _header(record: Record) -> list[str]:
    header = ["contender"]
    for kind in kinds(record):
        header += [f"{kind}: MSE (least to most)", "/ gptq", "/ gptq + refit + bias"]
        header += [key for key in record[kind] if key != "mse"]
    return [*header, "layers / gptq, calibration", "unseen", "seconds", "MB added"]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def tables(records: Sequence[Record]) -> str:
    """For each network and width a table of contenders, and one of pairs with 95% intervals."""
    parts = []
    for subject, width in dict.fromkeys((record["subject"], record["width"]) for record in records):
        found = runs(records, subject, width)
        first = next(iter(found.values()))
        parts.append(f"**{subject}, {width}**, mean of {len(first)} draws\n")
        parts.append(_markdown([_header(first[0]), *_rows(found)]) + "\n")
        pairs = [r for r in records if (r["record"], r["subject"], r["width"]) == ("ratio", subject, width)]
        rows = [["MSE of", "in units of", "data", "ratio (95% interval over texts)"]]
        for r in pairs:
            rows.append([r["contender"], r["to"], r["kind"], f"{r['ratio']:.3f} ({r['low']:.3f} to {r['high']:.3f})"])
        if pairs:
            parts.append(_markdown(rows) + "\n")
    return "\n".join(parts)


def plot(records: Sequence[Record], path: Path) -> None:
    """Each contender's error in units of GPTQ's, a panel for each network and width, a mark for each draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys((record["subject"], record["width"]) for record in records))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(2.6 + 3 * len(panels), 5), sharey=True, squeeze=False)
    names = list(dict.fromkeys(record["contender"] for record in records if record["record"] == "run"))
    for axis, (subject, width) in zip(axes[0], panels):
        found = runs(records, subject, width)
        base = {record["draw"]: record for record in found.get(BASELINE, [])}
        for kind, marker in zip(kinds(next(iter(found.values()))[0]), "o^"):
            points = [
                (record[kind]["mse"] / base[record["draw"]][kind]["mse"], names.index(name))
                for name, mine in found.items()
                for record in mine
                if record["draw"] in base
            ]
            axis.plot(*zip(*points) if points else ([], []), marker, label=kind, alpha=0.7, markersize=5)
        axis.axvline(1.0, color="grey", linewidth=0.8)
        axis.set(title=f"{subject}, {width}", xlabel="MSE / GPTQ's", xscale="log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
