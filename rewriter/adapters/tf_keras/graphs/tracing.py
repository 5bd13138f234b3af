"""Optional: traces a function, and reads the dataflow of its variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ...dataflow.graph_def import interpret_function
from ..classes import no_new_variables
from ..layers import handles_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...records import Dataflow


def specs_like(nest: Any) -> Any:
    """Return the ``TensorSpec`` of each array or tensor in a structure; ``AttributeError`` for what is none."""
    return tf.nest.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype), nest)


def dataflow(function: Callable[..., Any], specs: Sequence[Any], variables: Sequence[Any]) -> Dataflow:
    """Trace a function, and read from its graph what it does with some variables.

    Args:
        function: The function.
        specs: Its arguments, as structures of ``TensorSpec``.
        variables: The variables; the dataflow has their places in this list.

    Raises:
        NewVariableError: The function would make a variable.
    """
    with no_new_variables():
        traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    numbers = {id(handle): number for number, variable in enumerate(variables) for handle in handles_of(variable)}
    shapes = {number: tuple(variable.shape) for number, variable in enumerate(variables)}
    return interpret_function(traced, numbers, shapes)
