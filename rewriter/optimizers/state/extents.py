"""The extents of slots: what a rule keeps of a variable, as a shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout

Extent = Literal["unit", "incoming", "layer", "full", "incoming_pairs", "unit_pairs", "others"]

# The axes of W* that a slot has been averaged over, where it is made of slots of full size.
_AVERAGED: dict[str, tuple[int, ...]] = {"unit": (0,), "incoming": (1,), "layer": (0, 1), "full": ()}
# Those that are no averages, and of which some variables have no more than one number, that nobody reads.
_PAIRS = {"incoming_pairs": 0, "unit_pairs": 1}
_OTHERS = "others"
EXTENTS = (*_AVERAGED, *_PAIRS, _OTHERS)


def shape_of_slot(extent: Extent, variable: Any, layout: Layout | None) -> tuple[int, ...]:
    """Return the shape of a slot.

    Args:
        extent: Its extent.
        variable: The variable that it belongs to.
        layout: The layout of an augmented kernel, ``None`` for any other variable.
    """
    if layout is None:
        return () if extent == "layer" or extent in _PAIRS else tuple(variable.shape)
    if extent in _PAIRS:
        size = layout.shape[_PAIRS[extent]]
        return (size, size)
    if extent == _OTHERS:
        return ()
    # An extent names the axes that a slot has left, so a slot has the shape without those it is averaged over.
    return tuple(size for axis, size in enumerate(layout.shape) if axis not in _AVERAGED[extent])


def condensed(extent: Extent, values: Sequence[Any], layout: Layout) -> Any:
    """Make the slot of an augmented kernel from those of its parts: their mean; 0 of pairs, of which they know nothing.

    Args:
        extent: The slot's extent.
        values: The slot of each part, of the part's own shape; scalars, for one that the part does not have.
        layout: The layout of the augmented kernel.
    """
    if extent in _PAIRS:
        return keras.ops.zeros((), values[0].dtype)
    if extent == "layer":
        return keras.ops.mean(keras.ops.concatenate([keras.ops.reshape(each, (1,)) for each in values], axis=0))
    axes, stacked = _AVERAGED.get(extent, ()), layout.stack(values)
    return keras.ops.mean(stacked, axis=axes) if axes else stacked
