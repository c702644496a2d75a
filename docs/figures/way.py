"""The way of the data through one annealing step."""

from pathlib import Path
from typing import Any

from figures import in_every_theme

# What a station does, and what it hands to the next.
STATIONS = (
    ("Objective", "mean loss over fixed data", "loss f, gradient g"),
    ("Candidates", "ranked by g·d, Gumbel noise at T", "moves: one bit each"),
    ("Curvature", "Gauss–Newton over these weights", "QuadraticModel(g, H)"),
    ("Encoding", "d = offset + M b", "Qubo: E(b)"),
    ("Sampler", "draws b from exp(−E / T)", "bits and energies"),
    ("Judge", "residual Metropolis on the true f", "accepted moves"),
    ("Weights", "levels[code] × scale", ""),
)
SIZE = (5.0, 6.2)


def draw(folder: Path) -> None:
    """Stations from top to bottom, with the way back to the start."""
    in_every_theme(folder, "way", SIZE, paint)


def paint(figure: Any, colours: dict[str, str]) -> None:
    """One box a station."""
    from matplotlib.patches import FancyBboxPatch

    axes = figure.subplots()
    axes.set(xlim=(0.2, 10.6), ylim=(-len(STATIONS) + 0.65, 0.35))
    axes.axis("off")
    arrow = {"arrowstyle": "-|>", "color": colours["faint"], "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    left, right, half = 0.3, 8.5, 0.29
    for place, (name, what, hands) in enumerate(STATIONS):
        box = FancyBboxPatch((left, -place - half), right - left, 2 * half, boxstyle="round,pad=0,rounding_size=0.12")
        box.set(
            facecolor=colours["paper"],
            edgecolor=colours["a"] if name in ("Sampler", "Judge") else colours["faint"],
        )
        axes.add_patch(box)
        axes.text(left + 0.3, -place, name, va="center", weight="bold")
        axes.text(left + 2.6, -place, what, va="center")
        if hands:
            axes.annotate("", (1.2, -place - 1 + half), (1.2, -place - half), arrowprops=arrow)
            axes.text(1.5, -place - 0.5, hands, va="center", size=9, color=colours["a"])
    last = len(STATIONS) - 1
    axes.plot([right, 9.3, 9.3], [-last, -last, 0], color=colours["faint"], lw=1.3, solid_joinstyle="round")
    axes.annotate("", (right, 0), (9.3, 0), arrowprops=arrow)
    back = "refit of scales and continuous weights,\nthen gradient steps"
    axes.text(9.5, -last / 2, back, rotation=90, ha="left", va="center", size=9, linespacing=1.5)
