"""A picture of a benchmark: how long each took, as a share of the original."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rewriter.core import tables

from . import drawing

if TYPE_CHECKING:
    from ..benchmark.results import Benchmark


def draw(benchmark: Benchmark, path: Path) -> None:
    """Draw the ratios of times as bars with their quartiles, and write them in the format that the ending says.

    Raises:
        FileError: The picture cannot be written.
    """
    rows = benchmark.rows[::-1]
    figure = drawing.figure(8, 1.2 + 0.5 * len(rows))
    axes = figure.subplots()
    medians = [row.ratio.median for row in rows]
    spread = [
        [row.ratio.median - row.ratio.low for row in rows],
        [row.ratio.high - row.ratio.median for row in rows],
    ]
    labels = [f"{row.what}\n{row.rewritten}" for row in rows]
    bars = axes.barh(labels, medians, xerr=spread, color="#4c78a8", ecolor="#333333", capsize=3, height=0.6)
    axes.bar_label(bars, [f"{median:.2f}" for median in medians], label_type="center", color="white")
    axes.axvline(1, color="#333333", linestyle="--", linewidth=1)
    axes.set_xlim(0, max(1.1, *(row.ratio.high * 1.05 for row in rows)))
    axes.set_xlabel("share of the original's time under Keras's SGD with momentum (quartiles)")
    rounds = tables.counted(benchmark.rounds, "round")
    axes.set_title(f"{Path(benchmark.model).name}, batch of {benchmark.batch_size}, {rounds} in turn")
    drawing.write(figure, path)
