"""Figures drawn by code when the pages are built: `draw(folder)` of each module writes a light and a dark SVG.

Seeded, single-threaded and without dates, so that the same code draws the same figure.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("way", "sampling", "span")

# Ink, faint ink, paper, and three colours that differ in lightness too.
THEMES = {
    "light": {
        "ink": "#222222",
        "faint": "#8a8a8a",
        "paper": "#f3f4f6",
        "a": "#0060a8",
        "b": "#c85000",
        "c": "#00795c",
    },
    "dark": {
        "ink": "#dddddd",
        "faint": "#8c8c8c",
        "paper": "#23262b",
        "a": "#5cb8f5",
        "b": "#f0954a",
        "c": "#3fcfa6",
    },
}


def in_every_theme(
    folder: Path, name: str, size: tuple[float, float], paint: Callable[[Any, dict[str, str]], None]
) -> None:
    """Call `paint(figure, colours)` for each theme on a figure of `size` inches, and write it."""
    import matplotlib
    from matplotlib.figure import Figure

    for theme, colours in THEMES.items():
        ink = {
            key: colours["ink"]
            for key in ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
        }
        look = {
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": colours["faint"],
            "axes.facecolor": "none",
            "legend.frameon": False,
            "legend.fontsize": 9,
            "svg.hashsalt": name,
            **ink,
        }
        with matplotlib.rc_context(look):
            figure = Figure(size, layout="constrained")
            paint(figure, colours)
            figure.savefig(folder / f"{name}-{theme}.svg", transparent=True, metadata={"Date": None})
