"""Merge and separate: two operations on one layer, each the inverse of the other, bit for bit.

Surgery changes a layer and decides nothing. The plan has decided what is merged, and into which class.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from rewriter.core.layout import attach_to_layer, augmented_kernels, detach, layouts_in, places_among_weights
from rewriter.core.row_constraints import RowConstraint, RowLoss

from ..adapters import keras
from ..adapters.records import NewWeight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout


def merge(layer: Any, cls: type, layouts: Sequence[Layout], reuse: Sequence[Any] = ()) -> None:
    """Replace the weights that layouts name by augmented kernels, and the layer's class by an augmented one.

    ``separate`` with the layer's former class afterwards leaves the layer as it was.

    Args:
        layer: A built layer of its standard class.
        cls: The augmented class of that class.
        layouts: Which weights, in which rows; one for each augmented kernel.
        reuse: The augmented kernels to use again; they are assigned the layer's present values. None makes new ones.
    """
    weights = {part.attribute: getattr(layer, part.attribute) for layout in layouts for part in layout.parts}
    kernels = [_stacked(weights, layout) for layout in layouts] if not reuse else list(reuse)
    if reuse:
        for kernel, layout in zip(kernels, layouts, strict=True):
            kernel.assign(_stack(weights, layout))
    held = {
        id(weights[part.attribute]): (kernel, layout, part.attribute)
        for kernel, layout in zip(kernels, layouts, strict=True)
        for part in layout.parts
    }

    def loss_on_rows(loss: Any) -> Any:
        regularized = loss.args[0] if isinstance(loss, functools.partial) and loss.args else None
        rows = held.get(id(regularized))
        return loss if rows is None else RowLoss(loss.func, *rows)

    new = [
        NewWeight(layout.attribute, kernel, place)
        for kernel, layout, place in zip(kernels, layouts, places_among_weights(layouts), strict=True)
    ]
    mark(layer, kernels, layouts)
    try:
        keras.exchange_weights(layer, cls, list(weights), sorted(new, key=lambda weight: weight.position), loss_on_rows)
    except BaseException:
        detach(layer)
        raise


def _stack(weights: dict[str, Any], layout: Layout) -> Any:
    # A layer is built inside its first call, where mixed-precision weights would read as rounded.
    with keras.autocast(None):
        return layout.stack([weights[part.attribute] for part in layout.parts])


def _stacked(weights: dict[str, Any], layout: Layout) -> Any:
    reference = weights[layout.parts[0].attribute]
    constraint = RowConstraint.of(layout, tuple(weights[part.attribute].constraint for part in layout.parts))
    return keras.new_variable_like(reference, layout.name, _stack(weights, layout), constraint=constraint)


def mark(layer: Any, kernels: Sequence[Any], layouts: Sequence[Layout]) -> None:
    """Attach the layouts to a layer and to its augmented kernels, in every wrapping of them."""
    attach_to_layer(layer, layouts)
    for kernel, layout in zip(kernels, layouts, strict=True):
        layout.attach(*keras.variable_and_wrapped(kernel))


def discard(layer: Any) -> None:
    """Remove the augmented kernels of a layer, and their values, so that the layer can be built again."""
    kernels = [layout.attribute for layout in layouts_in(layer)]
    detach(layer)
    keras.exchange_weights(layer, type(layer), kernels, (), lambda loss: loss)


def separate(layer: Any, cls: type) -> None:
    """Replace the augmented kernels of a layer by the weights stacked in them; the inverse of :func:`merge`.

    The weights are new variables with the values, names, order, dtype, trainability and constraints of those merged.

    Args:
        layer: A layer of an augmented class.
        cls: The layer's standard class.
    """
    layouts = layouts_in(layer)
    weights: dict[str, Any] = {}
    for kernel, layout in zip(augmented_kernels(layer), layouts, strict=True):
        weights.update(_separated(kernel, layout))

    def loss_on_weight(loss: Any) -> Any:
        return functools.partial(loss.function, weights[loss.attribute]) if isinstance(loss, RowLoss) else loss

    parts = sorted((part for layout in layouts for part in layout.parts), key=lambda part: part.position)
    new = [NewWeight(part.attribute, weights[part.attribute], part.position) for part in parts]
    detach(layer)
    try:
        keras.exchange_weights(layer, cls, [layout.attribute for layout in layouts], new, loss_on_weight)
    except BaseException:
        attach_to_layer(layer, layouts)
        raise


def _separated(kernel: Any, layout: Layout) -> dict[str, Any]:
    constraint = kernel.constraint
    constraints = constraint.constraints if isinstance(constraint, RowConstraint) else (None,) * len(layout.parts)
    with keras.autocast(None):
        values = layout.unstack(kernel)
    return {
        part.attribute: keras.new_variable_like(kernel, name, value, constraint=of_part)
        for part, name, value, of_part in zip(
            layout.parts, layout.part_names(keras.name_of(kernel)), values, constraints, strict=True
        )
    }
