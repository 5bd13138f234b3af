"""A picture of each ``W*`` that a model has or could have: ``rewriter inspect --plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core import tables
from rewriter.core.layout import is_merged

from ...adapters import keras
from . import drawing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rewriter.core.layout import Layout

    from ...planning.decisions import Decision
    from ...planning.plan import Plan

_WIDTH, _HEIGHT = 7.0, 3.0  # of a panel, inches
# In the order in which Keras has them in a kernel's columns.
_GATES = {
    "LSTMCell": ("input", "forget", "cell", "output"),
    "GRUCell": ("update", "reset", "new"),
}


def draw(plan: Plan, path: Path) -> None:
    """Draw each ``W*`` as a heat map, its bias rows set apart below, and beside it how its units' norms are spread.

    Args:
        plan: The plan of a model; what it would merge is drawn as it will be.
        path: Where to; the ending says the format.

    Raises:
        FileError: The picture cannot be written.
    """
    decisions = [decision for decision in plan.decisions if decision.layout is not None]
    shown = decisions[: drawing.MOST]
    title = f"{plan.model}: {len(decisions)} augmented kernels W* = [W; b]"
    title += f", the first {len(shown)} of them" if len(shown) < len(decisions) else ""
    if not shown:
        figure = drawing.figure(_WIDTH, 1)
        figure.suptitle(f"{title}: nothing to draw")
    else:
        figure, panels = drawing.panels(len(shown), _WIDTH, _HEIGHT, title)
        for panel, decision in zip(panels, shown, strict=True):
            _draw_one(panel, decision)
    drawing.write(figure, path)


def augmented(decision: Decision) -> Any:
    """Read the ``W*`` of a layer, or stack what it would be, as an array of float64."""
    layer, layout = decision.target, decision.layout
    assert layout is not None  # noqa: S101  the caller has looked
    with keras.autocast(None):
        if is_merged(layer):
            return keras.ops.convert_to_numpy(getattr(layer, layout.attribute)).astype(np.float64)
        return keras.ops.convert_to_numpy(layout.stack([getattr(layer, each) for each in layout.attributes])).astype(
            np.float64
        )


def _draw_one(panel: Any, decision: Decision) -> None:
    layout, numbers = decision.layout, augmented(decision)
    assert layout is not None  # noqa: S101  as above
    biases = numbers[layout.bias_rows]
    axes = panel.subplot_mosaic(
        [["kernel", "norms"], ["bias", "norms"]],
        height_ratios=[8, max(1, len(biases))],
        width_ratios=[3, 2],
    )
    # A scale for the kernel: the bias of the forget gate alone, all ones at first, would bleach it.
    extent = drawing.strongest(numbers[layout.kernel_rows])
    image = drawing.heat_map(axes["kernel"], numbers[layout.kernel_rows], extent, drawing.SIGNED)
    drawing.heat_map(axes["bias"], biases, extent, drawing.SIGNED)
    scale = panel.colorbar(image, ax=[axes["kernel"], axes["bias"]], extend="both", pad=0.02)
    scale.ax.set_title("weight", fontsize="small")
    axes["kernel"].set(ylabel="incoming connection", xticks=[])
    _mark_kernels(axes["kernel"], layout)
    _mark_gates(axes, decision.target, layout.units)
    axes["bias"].set(xlabel="unit", yticks=[])
    furthest = np.abs(biases[np.isfinite(biases)]).max(initial=0)
    # Said even where it is small: a strip that is all white is of biases near zero, and not of none.
    axes["bias"].set_ylabel(f"bias\n(up to {furthest:.2g})", rotation=0, ha="right", va="center")
    norms = np.linalg.norm(numbers, axis=0)
    axes["norms"].hist(norms[np.isfinite(norms)], bins=min(30, max(5, len(norms) // 4)), color="#4c78a8")
    axes["norms"].set(xlabel="norm of a unit's column", ylabel="units")
    axes["norms"].yaxis.get_major_locator().set_params(integer=True)
    name = decision.path if layout.attribute == "augmented_kernel" else f"{decision.path}, {layout.attribute}"
    panel.suptitle(f"{name}  ({decision.layer}, W* {tables.shape(layout.shape)})", fontsize="medium")


def _mark_kernels(axes: Any, layout: Layout) -> None:
    """Draw lines between the kernels, where several are stacked, and name them."""
    kernels = layout.parts[: -layout.biases]
    if len(kernels) > 1:
        for end in np.cumsum([part.rows for part in kernels])[:-1]:
            axes.axhline(end - 0.5, color="black", linewidth=1)
        # The label is read from the bottom to the top.
        axes.set_ylabel(f"incoming connection\n{' | '.join(part.attribute for part in reversed(kernels))}")


def _mark_gates(axes: Mapping[str, Any], layer: Any, units: int) -> None:
    """Draw lines between the gates of a recurrent cell, whose units stand side by side, and name them."""
    names = next((names for cell, names in _GATES.items() if isinstance(layer, keras.layer_classes(cell))), ())
    if not names:
        return
    width = units // len(names)
    for axis in (axes["kernel"], axes["bias"]):
        for gate in range(1, len(names)):
            axis.axvline(gate * width - 0.5, color="black", linewidth=1)
    axes["kernel"].xaxis.tick_top()
    axes["kernel"].set_xticks([(gate + 0.5) * width - 0.5 for gate in range(len(names))], names)
    axes["kernel"].tick_params(axis="x", length=0, labelsize="small")
