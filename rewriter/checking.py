"""The gate: a layer that computes something else once merged is put back, and nothing is kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from rewriter import keras_internals
from rewriter.comparison import compare, compare_nests
from rewriter.errors import DifferenceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rewriter.layout import Layout

_BATCH = 4


@contextlib.contextmanager
def checked(layer: Any, layout: Layout, path: str) -> Iterator[None]:
    """Compare a layer's weights and outputs before and after what happens inside.

    Args:
        layer: A built standard layer, to be merged inside.
        layout: The layout it is merged in.
        path: Where it is in the model, for the message.

    Raises:
        DifferenceError: A weight differs in any bit, or an output by more than its dtype's rounding explains.
    """
    fan_in = layout.shape[0] - 1
    weights = {part.attribute: getattr(layer, part.attribute).numpy() for part in layout.parts}
    outputs = observe(layer, fan_in)
    yield
    for attribute, view in layout.views(layer.augmented_kernel).items():
        if not compare(weights[attribute], view).identical:
            raise DifferenceError(f"{path}: its {attribute} changed when it was merged. The model is as it was.")
    again = observe(layer, fan_in)
    difference = compare_nests(outputs, again, terms=fan_in)
    # A layer that draws random numbers differs from itself as well, and proves nothing.
    if not difference.explained and compare_nests(again, observe(layer, fan_in)).identical:
        raise DifferenceError(
            f"{path}: its outputs differ by up to {difference.largest:.3g} once it is merged, so its call does not use "
            f"its kernel and bias as a {type(layer).__name__} does. The model is as it was; leave the layer out with "
            f"exclude={path!r}."
        )


def observe(layer: Any, fan_in: int) -> Any:
    """Run a layer on a random batch of its own shape and dtype, the same batch each time.

    Whatever the layer's ``call`` changes in its own untrained weights is put back.

    Args:
        layer: A built layer, rewritten or not.
        fan_in: The size of its input's last axis.

    Returns:
        Its outputs, or ``None`` where it cannot be run on one input alone.
    """
    batch = np.random.default_rng(0).standard_normal((_BATCH, fan_in))
    states = [(weight, weight.numpy()) for weight in keras_internals.own_weights(layer) if not weight.trainable]
    try:
        with keras_internals.autocast_of(layer):
            return layer.call(tf.cast(batch, layer.compute_dtype))
    except Exception:  # noqa: BLE001  a call that wants more inputs, or a context: not ours to judge
        return None
    finally:
        for weight, value in states:
            weight.assign(value)
