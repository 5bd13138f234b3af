"""Graphs: what TensorFlow knows of the function that is being traced, and tells nobody."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tf_keras.src.utils.tf_utils import can_jit_compile


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
