"""Merge and separate: the two operations on one layer, each the inverse of the other, bit for bit.

Surgery touches a layer and decides nothing: what is merged, and into which class, was decided by the plan.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from rewriter import keras_internals
from rewriter.layout import AUGMENTED_KERNEL, detach, layout_in
from rewriter.rows import RowConstraint, RowLoss

if TYPE_CHECKING:
    from rewriter.layout import Layout


def merge(layer: Any, cls: type, layout: Layout, augmented: Any = None) -> None:
    """Replace the weights that a layout names by one augmented kernel, and the layer's class by an augmented one.

    ``separate`` with the layer's former class afterwards leaves the layer as it was.

    Args:
        layer: A built layer of its standard class.
        cls: The augmented class of that class.
        layout: Which weights, in which rows.
        augmented: The augmented kernel to use again; it is assigned the layer's present values. ``None`` makes one.
    """
    weights = {part.attribute: getattr(layer, part.attribute) for part in layout.parts}
    # A layer is built inside its first call, where mixed-precision weights would read as rounded.
    with keras_internals.stored_dtypes():
        stacked = layout.stack(list(weights.values()))
    if augmented is None:
        constraint = RowConstraint.of(layout, tuple(weight.constraint for weight in weights.values()))
        reference = next(iter(weights.values()))
        augmented = keras_internals.new_variable_like(reference, layout.name, stacked, constraint=constraint)
    else:
        augmented.assign(stacked)
    mark(layer, augmented, layout)

    def on_rows(loss: Any) -> Any:
        regularized = loss.args[0] if isinstance(loss, functools.partial) and loss.args else None
        attribute = next((name for name, weight in weights.items() if weight is regularized), None)
        return loss if attribute is None else RowLoss(loss.func, augmented, layout, attribute)

    keras_internals.replace_weight_losses(layer, on_rows)
    for attribute in weights:
        keras_internals.drop_weight(layer, attribute)
    keras_internals.set_class(layer, cls)
    keras_internals.add_weight_at(layer, AUGMENTED_KERNEL, augmented, layout.position)


def mark(layer: Any, augmented: Any, layout: Layout) -> None:
    """Make a layer and its augmented kernel, in every wrapping of it, tell their layout."""
    layout.attach(layer, *keras_internals.variable_and_wrapped(augmented))


def separate(layer: Any, cls: type) -> None:
    """Replace the augmented kernel of a layer by the weights stacked in it; the inverse of :func:`merge`.

    The weights are new variables with the values, names, order, dtype, trainability and constraints of those merged.

    Args:
        layer: A layer of an augmented class.
        cls: The layer's standard class.
    """
    augmented = layer.augmented_kernel
    layout = layout_in(layer)
    constraint = augmented.constraint
    constraints = constraint.constraints if isinstance(constraint, RowConstraint) else (None,) * len(layout.parts)
    weights = {}
    with keras_internals.stored_dtypes():
        values = layout.unstack(augmented)
    for part, name, value, of_part in zip(
        layout.parts, layout.part_names(augmented.name), values, constraints, strict=True
    ):
        weights[part.attribute] = keras_internals.new_variable_like(augmented, name, value, constraint=of_part)

    def on_weight(loss: Any) -> Any:
        return functools.partial(loss.function, weights[loss.attribute]) if isinstance(loss, RowLoss) else loss

    keras_internals.replace_weight_losses(layer, on_weight)
    keras_internals.drop_weight(layer, AUGMENTED_KERNEL)
    detach(layer)
    keras_internals.set_class(layer, cls)
    for part in sorted(layout.parts, key=lambda part: part.position):
        keras_internals.add_weight_at(layer, part.attribute, weights[part.attribute], part.position)
