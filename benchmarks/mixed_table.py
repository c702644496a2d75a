"""What the alternation reached on a task of `benchmarks.mixed`, beside gradients alone and annealing alone."""

import statistics
from collections.abc import Sequence

from benchmarks.rows import Row, markdown, mean

ALONE = ("gradients", "annealing")
TIMES = 4  # the CPU time of the alternation that either has alone


def won(rows: Sequence[Row]) -> list[int]:
    """The seeds that the alternation solves and that neither part solves alone in four times its CPU time.

    A control ends when it solves the task, so that its CPU time is what it took.
    """
    runs = {(row["contender"], row["seed"]): row for row in rows}
    solved = [(seed, row["cpu_s"]) for (name, seed), row in runs.items() if name == "ours" and row["solved"]]
    return [seed for seed, spent in solved if all(runs[name, seed]["cpu_s"] >= TIMES * spent for name in ALONE)]


def ahead(rows: Sequence[Row]) -> list[int]:
    """The seeds on which the alternation is more accurate than either part alone, which did not even solve the task."""
    runs = {(row["contender"], row["seed"]): row for row in rows}
    ours = {seed: row["metric"] for (name, seed), row in runs.items() if name == "ours"}
    return [
        seed
        for seed, metric in ours.items()
        if all(runs[name, seed]["metric"] < metric and not runs[name, seed]["solved"] for name in ALONE)
    ]


def table(rows: Sequence[Row]) -> str:
    """A line a contender, and how many seeds neither part solves alone."""
    lines = []
    for name in dict.fromkeys(row["contender"] for row in rows):
        runs = [row for row in rows if row["contender"] == name]
        solved = f"{sum(row['solved'] for row in runs)} / {len(runs)}"
        seconds = statistics.mean(row["cpu_s"] for row in runs)
        lines.append(
            [name, solved, *(mean([row[key] for row in runs]) for key in ("metric", "loss")), f"{seconds:.2g}"]
        )
    header = ["", "solved", "test accuracy", "training errors", "CPU seconds"]
    seeds = sum(row["contender"] == "ours" for row in rows)
    legend = (
        "Means, with standard errors. Solved by the alternation, and by neither part alone in "
        f"{TIMES} times its CPU time: {len(won(rows))} of {seeds} seeds. More accurate than both, neither of which "
        f"solved the task: {len(ahead(rows))} of {seeds}."
    )
    return f"{markdown(header, lines)}\n\n{legend}"
