"""Traces a function, and reads the dataflow of its variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ..classes import no_new_variables
from ..layers import handles_of
from .dataflow import interpret

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
    captured = traced.captured_inputs
    # What a graph captures comes after its arguments.
    placeholders = traced.inputs[len(traced.inputs) - len(captured) :]
    handles = {
        placeholder.op.name: numbers[id(handle)]
        for placeholder, handle in zip(placeholders, captured, strict=True)
        if id(handle) in numbers
    }
    shapes = {number: tuple(variable.shape) for number, variable in enumerate(variables)}
    return interpret(traced.graph.as_graph_def(add_shapes=True), handles, shapes)
