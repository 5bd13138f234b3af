"""One step of SGD with momentum on one variable, in one operation.

tf-keras takes six, each as large as the variable, and makes three tensors of that size. It is the same to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from rewriter.core.derived_classes import original_class

from ... import xla
from ..corrected_steps import subtract_in_place
from ..distribution import has_strategy

if TYPE_CHECKING:
    from collections.abc import Callable


def velocity_step(optimizer: Any, gradient: Any, variable: Any, rows: slice, correction: Callable[[Any], Any]) -> bool:
    """Take the step, if the optimizer is SGD without nesterov, in a graph of one device that XLA does not compile.

    Args:
        optimizer: The optimizer, built.
        gradient: The gradient, dense.
        variable: The variable, as it is stored.
        rows: Its last rows.
        correction: Given what was added, returns what is to be subtracted from these rows.

    Returns:
        Whether the step was taken, and corrected.
    """
    if original_class(type(optimizer)) is not tf_keras.optimizers.SGD or optimizer.nesterov:
        return False
    if tf.executing_eagerly() or xla.is_compiled_by_xla() or has_strategy():
        return False
    velocity = optimizer.momentums[optimizer._index_dict[optimizer._var_key(variable)]]
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=velocity.handle,
        lr=tf.cast(optimizer.learning_rate, variable.dtype),
        grad=gradient,
        momentum=tf.cast(optimizer.momentum, variable.dtype),
    )
    subtract_in_place(variable, rows, correction(velocity))
    return True
