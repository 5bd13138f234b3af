"""The function that is being traced: what TensorFlow knows of it and does not say in public."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.ops.control_flow_v2_func_graphs import (
    CondBranchFuncGraph,
    WhileBodyFuncGraph,
    WhileCondFuncGraph,
)
from tensorflow.python.ops.while_v2 import _WhileBodyGradFuncGraph
from tf_keras.src.utils.tf_utils import can_jit_compile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NOTES = "_rewriter_notes"
_PARTS_OF_A_GRAPH = (CondBranchFuncGraph, WhileBodyFuncGraph, WhileCondFuncGraph)


def current_graph() -> Any:
    """Return the graph that is being traced, ``None`` outside of graphs."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def notes_of_graph() -> dict[Any, Any]:
    """Return what is noted of the graph that is being traced; it goes with the graph. Outside of graphs nothing stays.

    An object that outlives the graph, and kept its tensors itself, would keep the graph.
    """
    graph = current_graph()
    if graph is not None and not hasattr(graph, _NOTES):
        setattr(graph, _NOTES, {})
    return getattr(graph, _NOTES, {})


def is_usable_here(made_in: Any) -> bool:
    """Tell whether a tensor made in some graph can be used now: in that graph, or in a loop or condition inside it.

    A function that is traced inside would capture it, and go on with it wherever it is called later.
    """
    here = current_graph()
    while here is not made_in and isinstance(here, _PARTS_OF_A_GRAPH):
        here = here.outer_graph
    return here is made_in


def with_shape(tensor: Any, shape: Any) -> Any:
    """State the shape of a tensor by an operation that TensorFlow does not optimize away."""
    return tf.ensure_shape(tensor, shape)


def in_part_of_a_graph() -> bool:
    """Tell whether what is traced now is a branch of a condition, or part of a loop."""
    return isinstance(current_graph(), _PARTS_OF_A_GRAPH)


def is_vectorized() -> bool:
    """Tell whether what is traced now will be vectorized: it is for a Jacobian, or in ``tf.vectorized_map``."""
    # TensorFlow keeps no other sign of it.
    return "loop_body" in tf.get_current_name_scope().split("/")


def for_way_back(tensor: Any) -> Any:
    """Return a tensor as what is traced now may use it on its way back: a branch in a loop, only what is its own."""
    return tf.identity(tensor) if in_part_of_a_graph() else tensor


def _loops_on_the_way_back() -> list[Any]:
    """List the graphs from the one that is traced now to the outermost loop whose backward pass it is part of."""
    graphs, here = [], current_graph()
    while isinstance(here, _PARTS_OF_A_GRAPH):
        graphs.append(here)
        here = here.outer_graph
    while graphs and not isinstance(graphs[-1], _WhileBodyGradFuncGraph):
        graphs.pop()
    return graphs


def goes_back_through_loop() -> bool:
    """Tell whether what is traced now is part of the backward pass of a loop."""
    return bool(_loops_on_the_way_back())


def from_outside(make: Callable[[], Any]) -> Any:
    """Return what a function makes, a tensor or ``None``; on the way back through loops it is made outside of them."""
    graphs = _loops_on_the_way_back()
    if not graphs:
        return make()
    with graphs[-1].outer_graph.as_default():
        tensor = make()
    if tensor is None:
        return None
    # One by one: a branch of a condition takes in nothing from beyond what it is in.
    for graph in reversed(graphs):
        tensor = graph.capture(tensor)
    return tensor


def is_differentiated() -> bool:
    """Tell whether a ``GradientTape`` is recording: whether what is traced now will have a backward pass."""
    return bool(record.could_possibly_record())


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


_SUMS = frozenset({"AddN", "AddV2", "Add", "Cast", "Identity"})


def is_sum_of(gradient: Any, parts: Sequence[Any]) -> bool:
    """Tell whether a tensor of the graph being traced is the sum of some others, all of them and nothing else.

    Args:
        gradient: The tensor.
        parts: The others.
    """
    if tf.executing_eagerly() or not isinstance(gradient, tf.Tensor) or not parts:
        return False
    left, waiting = {id(part) for part in parts}, [gradient]
    known = {(part.graph, part.name): id(part) for part in parts if not hasattr(part, "numpy")}
    while waiting:
        tensor = waiting.pop()
        part = known.get((tensor.graph, tensor.name))
        if part is not None:
            left.discard(part)
        elif tensor.op.type in _SUMS:
            waiting += tensor.op.inputs
        else:
            return False
    return not left
