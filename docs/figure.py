"""Draws the figure of the README: a kernel and a bias become one variable. ``make figure`` writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

ROWS, UNITS, CHOSEN = 5, 4, 2
KERNEL, BIAS, LINE, UNIT = "#9ecae9", "#ffbf79", "#4a4a4a", "#c0392b"
SIZE = 17  # of letters that say what is what


def cells(axes: Any, left: float, bottom: float, rows: int, colour: str) -> None:
    """Draw a block of weights."""
    for row in range(rows):
        for unit in range(UNITS):
            corner = (left + unit, bottom + row)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=2))


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    """Draw an arrow."""
    options = {"arrowstyle": "-|>", "mutation_scale": 18, "color": LINE, "linewidth": 1.6, **style}
    axes.add_patch(FancyArrowPatch(start, end, **options))


def draw() -> Figure:
    """Draw the figure: two variables and two calls on the left, one of each on the right."""
    figure = Figure(figsize=(11, 4.4), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1.4, 23.6), ylim=(-1.9, 8.1))
    axes.set_axis_off()
    text = {"ha": "center", "va": "center", "color": LINE}

    axes.text(3.6, 7.5, "as Keras has it", **text, fontsize=SIZE, fontweight="bold")
    cells(axes, 0, 1.4, ROWS, KERNEL)
    cells(axes, 0, -0.4, 1, BIAS)
    axes.text(-0.3, 1.4 + ROWS / 2, "kernel W", **text, fontsize=14, rotation=90)
    axes.text(-0.3, 0.1, "b", **text, fontsize=14)
    for height, what in ((1.4 + ROWS / 2, "update(∂W, W)"), (0.1, "update(∂b, b)")):
        arrow(axes, (UNITS + 0.15, height), (UNITS + 1.2, height))
        axes.text(UNITS + 1.4, height, what, **{**text, "ha": "left"}, fontsize=14, family="monospace")
    axes.text(3.6, -1.4, "two calls, and nothing says they are one layer", **text, fontsize=12.5)

    arrow(axes, (9.7, 4.9), (12.3, 4.9), mutation_scale=28, linewidth=3)
    axes.text(11, 5.5, "rewrite", **text, fontsize=14, fontweight="bold")
    arrow(axes, (12.3, 3.2), (9.7, 3.2), mutation_scale=28, linewidth=3)
    axes.text(11, 2.6, "split, export", **text, fontsize=14, fontweight="bold")
    axes.text(11, 1.9, "bit for bit", **text, fontsize=12.5)

    left = 14
    axes.text(left + 3.9, 7.5, "rewritten", **text, fontsize=SIZE, fontweight="bold")
    cells(axes, left, 0.9, ROWS, KERNEL)
    cells(axes, left, -0.1, 1, BIAS)
    axes.text(left - 0.4, 0.4 + ROWS / 2, "W* = [W; b]", **text, fontsize=14, rotation=90)
    unit = Rectangle((left + CHOSEN, -0.1), 1, ROWS + 1, facecolor="none", edgecolor=UNIT, linewidth=3)
    axes.add_patch(unit)
    axes.text(left + CHOSEN + 0.5, ROWS + 1.35, "a unit", **{**text, "color": UNIT}, fontsize=14)
    arrow(axes, (left + UNITS + 0.15, 0.4 + ROWS / 2), (left + UNITS + 1.2, 0.4 + ROWS / 2))
    axes.text(
        left + UNITS + 1.4, 0.4 + ROWS / 2, "update(G, W*)", **{**text, "ha": "left"}, fontsize=14, family="monospace"
    )
    axes.text(left + 3.9, -1.4, "one call; a unit is a column, its bias in the last row", **text, fontsize=12.5)
    return figure


if __name__ == "__main__":
    # Letters stay letters, and the file is the same each time it is drawn.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "rewriter"}):
        target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "figure.svg"
        draw().savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
