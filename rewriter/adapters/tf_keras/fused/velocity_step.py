"""One step of SGD with momentum on one variable, in one operation.

tf-keras takes six, each as large as the variable, and makes three tensors of that size. It is the same to rounding.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from rewriter.core.derived_classes import original_class

from ..distribution import has_strategy
from ..graphs import context


def velocity_step(optimizer: Any, gradient: Any, variable: Any) -> Any:
    """Take the step, if the optimizer is SGD without nesterov, in a graph of one device that XLA does not compile.

    Args:
        optimizer: The optimizer, built.
        gradient: The gradient, dense.
        variable: The variable, as it is stored.

    Returns:
        What was added to the variable: its velocity, a variable. ``None`` if no step was taken.
    """
    if original_class(type(optimizer)) is not tf_keras.optimizers.SGD or optimizer.nesterov:
        return None
    if tf.executing_eagerly() or context.is_compiled_by_xla() or has_strategy():
        return None
    velocity = optimizer.momentums[optimizer._index_dict[optimizer._var_key(variable)]]
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=velocity.handle,
        lr=tf.cast(optimizer.learning_rate, variable.dtype),
        grad=gradient,
        momentum=tf.cast(optimizer.momentum, variable.dtype),
    )
    return velocity
