"""The one table of layer families: which layers have weights that can be stacked, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tf_keras

from rewriter import keras_internals
from rewriter.layout import Layout, Part


@dataclass(frozen=True)
class Family:
    """Layers whose weights are stacked alike.

    Attributes:
        name: How the family is called in messages and options.
        layer: The class whose instances, subclasses included, belong to it.
        kernel: The attribute that holds the kernel; its last axis is the layer's units.
        bias: The attribute that holds the bias, one number a unit; it becomes the last row.
    """

    name: str
    layer: type
    kernel: str = "kernel"
    bias: str = "bias"


FAMILIES = (Family("dense", tf_keras.layers.Dense),)


def family_of(layer: Any) -> Family | None:
    """Tell to which family a layer belongs, ``None`` if to no known one."""
    return next((family for family in FAMILIES if isinstance(layer, family.layer)), None)


def layout_for(layer: Any, family: Family) -> Layout:
    """Describe how the weights of a built standard layer of a family are stacked; touches nothing."""
    positions = {id(weight): position for position, weight in enumerate(keras_internals.own_weights(layer))}
    weights = {attribute: getattr(layer, attribute) for attribute in (family.kernel, family.bias)}
    return Layout(
        tuple(
            Part(attribute, weight.name.rsplit(":", 1)[0], tuple(weight.shape), positions[id(weight)])
            for attribute, weight in weights.items()
        )
    )
