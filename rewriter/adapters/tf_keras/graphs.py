"""Graphs: what TensorFlow knows of the function that is being traced, and has no public way to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.ops.control_flow_v2_func_graphs import (
    CondBranchFuncGraph,
    WhileBodyFuncGraph,
    WhileCondFuncGraph,
)
from tf_keras.src.utils.tf_utils import can_jit_compile

from rewriter.adapters.tf_keras.layers import handles_of
from rewriter.adapters.tf_keras.optimizers import key_of

if TYPE_CHECKING:
    from collections.abc import Collection

_PARTS_OF_A_GRAPH = (CondBranchFuncGraph, WhileBodyFuncGraph, WhileCondFuncGraph)


class Replaced(NamedTuple):
    """What is remembered of a variable that is replaced, without keeping it: it may take as much memory as the model.

    Attributes:
        key: The key by which optimizers know it.
        handles: The ``id`` of the resources by which graphs read it. A graph that does keeps them alive.
    """

    key: Any
    handles: frozenset[int]


def remember(variable: Any) -> Replaced:
    """Note what tells optimizers and graphs that hold a variable."""
    return Replaced(key_of(variable), frozenset(map(id, handles_of(variable))))


# What a tf.function keeps of its traces, and has no public way to forget.
_TRACES = ("_created_variables", "_variable_creation_config", "_no_variable_creation_config")


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


def traced(function: Any, *specs: Any) -> Any:
    """Trace a function; returns its graph with what it captured."""
    return tf.function(function, autograph=False).get_concrete_function(*specs)


def no_new_variables(error: type[Exception]) -> Any:
    """Inside, an error is raised where a variable would be made."""

    def create(*_: Any, **__: Any) -> Any:
        raise error

    return tf.variable_creator_scope(create)


def never_run() -> Any:
    """Inside, what is made is part of a graph that is never run, and takes no memory."""
    return tf.Graph().as_default()


def current_graph() -> Any:
    """Name the graph that is being traced, ``None`` outside of any."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def is_usable_here(made_in: Any) -> bool:
    """Tell whether a tensor made in some graph can be used now: in that graph, or in a loop or condition inside it.

    A function that is traced inside would capture it, and go on with it wherever it is called later.
    """
    here = current_graph()
    while here is not made_in and isinstance(here, _PARTS_OF_A_GRAPH):
        here = here.outer_graph
    return here is made_in


def is_differentiated() -> bool:
    """Tell whether a ``GradientTape`` is recording: whether what is traced now will have a backward pass."""
    return bool(record.could_possibly_record())


def is_compiled_by_xla() -> bool:
    """Tell whether what is traced now is inside a ``tf.function(jit_compile=True)``."""
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def can_compile() -> bool:
    """Tell whether TensorFlow has XLA on this platform."""
    return bool(can_jit_compile())


def factors_of(gradient: Any) -> tuple[Any, Any] | None:
    """Read the factors ``A`` and ``B`` of a gradient that is a product ``Aᵀ B`` of the graph being traced.

    Args:
        gradient: A tensor.

    Returns:
        Two tensors of that graph with as many rows each, ``None`` where the gradient is made otherwise, or eagerly.
    """
    if tf.executing_eagerly() or gradient.graph is not tf.compat.v1.get_default_graph():
        return None
    made = gradient.op
    if made.type != "MatMul" or not made.get_attr("transpose_a") or made.get_attr("transpose_b"):
        return None
    return made.inputs[0], made.inputs[1]
