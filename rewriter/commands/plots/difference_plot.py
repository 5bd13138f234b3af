"""A picture of where two models differ: ``rewriter verify --plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core import tables

from . import drawing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ...rewriting.verification import Comparison, Report, Weights

_WIDTH = 9.0  # inches
_BAR = 0.22  # the height of a line, inches
_MOST = 60  # lines
_MAPS = 4  # heat maps at most
_COLOURS = {"weights": "#4c78a8", "outputs": "#f58518"}


def draw(report: Report, weights: tuple[Weights, Weights], names: tuple[str, str], path: Path) -> None:
    """Draw how far apart all is that was compared, and where the weights differ that differ most.

    Args:
        report: What was compared.
        weights: The weights of both models, by path and name.
        names: What the models are called.
        path: Where to; the ending says the format.

    Raises:
        FileError: The picture cannot be written.
    """
    shown = list(report.comparisons) if len(report.comparisons) <= _MOST else list(report.differing)[:_MOST]
    maps = _largest(report.differing, weights)
    if report.same:
        figure = drawing.figure(_WIDTH, 1)
        figure.suptitle(f"{names[0]} and {names[1]}: the same in {report.counts} compared")
        drawing.write(figure, path)
        return
    bars_height = 1.4 + _BAR * max(1, len(shown))
    maps_height = 2.8 * -(-len(maps) // 2)
    figure = drawing.figure(_WIDTH, bars_height + maps_height + 0.4)
    differing = f"{len(report.differing)} of {len(report.comparisons)} weights and outputs differ"
    only = f",\n{tables.counted(len(report.unmatched), 'layer')} in one model only" if report.unmatched else ""
    figure.suptitle(f"{names[0]} and {names[1]}: {differing}{only}", fontweight="bold")
    if maps:
        above, below = figure.subfigures(2, 1, height_ratios=[bars_height, maps_height])
        _draw_maps(below, maps)
    else:
        above = figure
    _draw_bars(above.subplots(), shown, len(report.comparisons))
    drawing.write(figure, path)


def _draw_bars(axes: Any, shown: Sequence[Comparison], compared: int) -> None:
    lines = shown[::-1]
    largest = np.array([comparison.difference.largest for comparison in lines])
    positive = largest[np.isfinite(largest) & (largest > 0)]
    low = 10.0 ** (np.floor(np.log10(positive.min())) - 1) if positive.size else 1e-8
    high = 10.0 ** np.ceil(np.log10(positive.max())) * 1.5 if positive.size else 1.0
    for line, (comparison, value) in enumerate(zip(lines, largest, strict=True)):
        colour = _COLOURS["outputs" if comparison.what == "outputs" else "weights"]
        if comparison.difference.identical:
            axes.text(low * 1.1, line, "the same bit for bit", va="center", fontsize="small", color="#777777")
        elif not np.isfinite(value):
            axes.text(low * 1.1, line, "not comparable: shape or dtype", va="center", fontsize="small", color=colour)
        else:
            axes.barh(line, value, color=colour, height=0.7, alpha=0.4 if comparison.same else 1)
            note = f"{value:.2g}, rounding" if comparison.same else f"{value:.2g}"
            axes.text(value, line, f" {note}", va="center", fontsize="small")
    axes.set(xscale="log", xlim=(low, high * 3), ylim=(-0.7, len(lines) - 0.3))
    axes.set_yticks(range(len(lines)), [f"{each.path}  {each.what}" for each in lines], fontsize="small")
    axes.set(xlabel="largest absolute difference")
    left_out = compared - len(shown)
    axes.set_title(f"{left_out} that are the same are left out" if left_out else "", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    kinds = {"outputs" if comparison.what == "outputs" else "weights" for comparison in lines}
    handles = [axes.barh(0, 0, color=_COLOURS[kind], label=kind) for kind in _COLOURS if kind in kinds]
    if len(handles) > 1:
        axes.legend(handles=handles, loc="lower right", fontsize="small", frameon=False)


def _largest(differing: Sequence[Comparison], weights: tuple[Weights, Weights]) -> list[tuple[str, Any]]:
    """Choose the matrices that differ most, as what they differ by; a kernel of more axes as one row a tap."""
    found = []
    for comparison in sorted(differing, key=lambda one: -one.difference.largest):
        one, other = (side.get(comparison.path, {}).get(comparison.what) for side in weights)
        if one is None or other is None or np.shape(one) != np.shape(other) or np.ndim(one) < 2:  # noqa: PLR2004
            continue  # what is no matrix has its line above
        rows = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).reshape(-1, np.shape(one)[-1])
        found.append((f"{comparison.path}  {comparison.what}", rows))
    return found[:_MAPS]


def _draw_maps(figure: Any, maps: Sequence[tuple[str, Any]]) -> None:
    columns = min(2, len(maps))
    axes = list(figure.subplots(-(-len(maps) // columns), columns, squeeze=False).flat)
    for axis, (name, numbers) in zip(axes, maps, strict=False):
        image = drawing.heat_map(axis, numbers, drawing.strongest(numbers), drawing.UNSIGNED)
        axis.set_title(name, fontsize="medium")
        axis.set(xlabel="last axis", ylabel="all other axes")
        figure.colorbar(image, ax=axis, label="absolute difference", extend="max")
    for axis in axes[len(maps) :]:
        axis.remove()
