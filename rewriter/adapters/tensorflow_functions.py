"""Functions that TensorFlow has traced: which variables their graphs read, and how to make them trace again.

Of no Keras: a user's ``tf.function`` may call a model of either.
"""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection
_PLAIN = (types.FunctionType, property, str, bool, int, float, tuple, type(None))
# What a tf.function keeps of its traces, and has no public way to forget.
_TRACES = ("_created_variables", "_variable_creation_config", "_no_variable_creation_config")


@functools.cache
def function_class() -> type:
    """Return the class of every ``tf.function``."""
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    cls: type = tf.types.experimental.PolymorphicFunction
    return cls


def is_traced_function(value: Any) -> bool:
    """Tell whether a value is a ``tf.function``."""
    # Most are plain functions, and an abstract class takes its time to say that it does not know them.
    return not isinstance(value, _PLAIN) and isinstance(value, function_class())


def has_traced(function: Any, handles: Collection[int]) -> bool:
    """Tell whether a ``tf.function`` was traced to a graph that reads a variable by one of some handles, by ``id``."""
    graphs = (each.graph for each in function._function_cache.values())
    return any(id(captured) in handles for graph in graphs for captured, _ in graph.captures)


def take_traces(function: Any) -> dict[str, Any]:
    """Make a ``tf.function`` trace again at its next call; returns its traces, for :func:`put_traces`."""
    traces = {name: vars(function)[name] for name in (*_TRACES, "_function_cache")}
    vars(function).update(dict.fromkeys(_TRACES), _function_cache=type(function._function_cache)())
    return traces


def put_traces(function: Any, traces: dict[str, Any]) -> None:
    """Give a ``tf.function`` the traces back that it had, valid again because their variables are in use again."""
    vars(function).update(traces)
