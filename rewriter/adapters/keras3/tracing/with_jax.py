"""Traces a function with JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import keras

from ...dataflow.jaxpr import interpret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...records import Dataflow

# JAX traces with whole numbers for sizes. For those that a model leaves open this one: a prime, so that it is no
# product of others, and one that no layer has.
_OPEN = 83


def trace(function: Callable[..., Any], specs: Sequence[Any], variables: Sequence[Any]) -> Dataflow:
    """Trace a function; see ``dataflow`` of this package."""

    def stateless(values: list[Any], leaves: list[Any]) -> list[Any]:
        with keras.StatelessScope(state_mapping=[*zip(variables, values, strict=True)]):
            results = keras.tree.flatten(function(*keras.tree.pack_sequence_as(list(specs), leaves)))
        return [each for each in results if isinstance(each, jax.Array)]

    values = [jax.ShapeDtypeStruct(tuple(each.shape), each.dtype) for each in variables]
    leaves = [
        jax.ShapeDtypeStruct(tuple(_OPEN if size is None else size for size in each.shape), each.dtype.name)
        for each in keras.tree.flatten(list(specs))
    ]
    shapes = {number: tuple(variable.shape) for number, variable in enumerate(variables)}
    return interpret(jax.make_jaxpr(stateless)(values, leaves), shapes)
