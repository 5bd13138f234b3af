"""Merge and separate: the two operations on one layer, each the inverse of the other, bit for bit.

Surgery touches a layer and decides nothing: what is merged, and into which class, was decided by the plan.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from rewriter.adapters import tf_keras as keras
from rewriter.core.layout import attach_to_layer, augmented_kernels, detach, layouts_in, places_among_weights
from rewriter.core.row_constraints import RowConstraint, RowLoss

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
    mark(layer, kernels, layouts)
    held = {
        id(weights[part.attribute]): (kernel, layout, part.attribute)
        for kernel, layout in zip(kernels, layouts, strict=True)
        for part in layout.parts
    }

    def on_rows(loss: Any) -> Any:
        regularized = loss.args[0] if isinstance(loss, functools.partial) and loss.args else None
        rows = held.get(id(regularized))
        return loss if rows is None else RowLoss(loss.func, *rows)

    keras.replace_weight_losses(layer, on_rows)
    for attribute in weights:
        keras.drop_weight(layer, attribute)
    keras.set_class(layer, cls)
    for place, kernel, layout in sorted(
        zip(places_among_weights(layouts), kernels, layouts, strict=True), key=lambda each: each[0]
    ):
        keras.add_weight_at(layer, layout.attribute, kernel, place)


def _stack(weights: dict[str, Any], layout: Layout) -> Any:
    # A layer is built inside its first call, where mixed-precision weights would read as rounded.
    with keras.stored_dtypes():
        return layout.stack([weights[part.attribute] for part in layout.parts])


def _stacked(weights: dict[str, Any], layout: Layout) -> Any:
    reference = weights[layout.parts[0].attribute]
    constraint = RowConstraint.of(layout, tuple(weights[part.attribute].constraint for part in layout.parts))
    return keras.new_variable_like(reference, layout.name, _stack(weights, layout), constraint=constraint)


def mark(layer: Any, kernels: Sequence[Any], layouts: Sequence[Layout]) -> None:
    """Make a layer and its augmented kernels, in every wrapping of them, tell their layouts."""
    attach_to_layer(layer, layouts)
    for kernel, layout in zip(kernels, layouts, strict=True):
        layout.attach(*keras.variable_and_wrapped(kernel))


def discard(layer: Any) -> None:
    """Take the augmented kernels of a layer off it, with what is in them, so that it can be built anew."""
    for layout in layouts_in(layer):
        keras.drop_weight(layer, layout.attribute)
    detach(layer)


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
        weights.update(_taken_apart(kernel, layout))

    def on_weight(loss: Any) -> Any:
        return functools.partial(loss.function, weights[loss.attribute]) if isinstance(loss, RowLoss) else loss

    keras.replace_weight_losses(layer, on_weight)
    for layout in layouts:
        keras.drop_weight(layer, layout.attribute)
    detach(layer)
    keras.set_class(layer, cls)
    parts = [part for layout in layouts for part in layout.parts]
    for part in sorted(parts, key=lambda part: part.position):
        keras.add_weight_at(layer, part.attribute, weights[part.attribute], part.position)


def _taken_apart(kernel: Any, layout: Layout) -> dict[str, Any]:
    constraint = kernel.constraint
    constraints = constraint.constraints if isinstance(constraint, RowConstraint) else (None,) * len(layout.parts)
    with keras.stored_dtypes():
        values = layout.unstack(kernel)
    return {
        part.attribute: keras.new_variable_like(kernel, name, value, constraint=of_part)
        for part, name, value, of_part in zip(
            layout.parts, layout.part_names(kernel.name), values, constraints, strict=True
        )
    }
