"""Traces a function with TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from ...dataflow.graph_def import interpret_function

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...records import Dataflow


def trace(function: Callable[..., Any], specs: Sequence[Any], variables: Sequence[Any]) -> Dataflow:
    """Trace a function; see ``dataflow`` of this package."""
    given = keras.tree.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype.name), list(specs))
    traced = tf.function(function, autograph=False).get_concrete_function(*given)
    numbers = {id(variable.value.handle): number for number, variable in enumerate(variables)}
    return interpret_function(traced, numbers, {n: tuple(each.shape) for n, each in enumerate(variables)})
