"""What layers see in training, added up in variables of an optimizer, on every replica by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.eager import record
from tensorflow.python.saved_model import save_context
from tf_keras.src.engine import base_layer
from tf_keras.src.engine.base_layer_utils import call_context

from ...outermost_call import told_inference
from ...xla import is_compiled_by_xla
from ..distribution import has_strategy, strategy_scope
from ..graphs.context import in_part_of_a_graph
from ..layers import made_quickly, stored_dtype, stored_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Where a tensor that Keras has cast for a layer has the mask of what it was.
CAST_MASK = "_rewriter_mask"
# The ranks of inputs that the product with W* takes as a matrix.
_FLAT = (2, 3)


def is_training_call() -> bool:
    """Tell whether the call that is under way is one of training.

    A user's loop calls ``model(x)`` and says nothing of training, or a model calls a part of itself with
    ``training=False``; then it is one if a tape records it. What is traced for a SavedModel is called in training mode
    too, and the model without its optimizer is to have all that it needs.
    """
    if save_context.in_save_context():
        return False
    training = call_context().training
    # A tensor says it at run time. That is old code, and what it sees is taken for training.
    if training is not None and (not isinstance(training, bool | int) or training):
        return True
    return bool(record.could_possibly_record()) and not told_inference(base_layer.Layer.__call__)


def mask_of(inputs: Any) -> Any:
    """Return the mask that came with an input of a layer, ``None`` where there is none."""
    mask = getattr(inputs, "_keras_mask", None)
    return getattr(inputs, CAST_MASK, None) if mask is None else mask


def mask_of_outputs(layer: Any, mask: Any) -> Any:
    """Return the mask of a recurrent layer in the order of its outputs: that of its inputs, or the reverse of it."""
    if not getattr(layer, "go_backwards", False):
        return mask
    return tf.reverse(mask, [0 if getattr(layer, "time_major", False) else 1])


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def sum_of_features(inputs: Any, axes: Sequence[int], dtype: Any, guarded: bool, mask: Any = None) -> Any:
    """Add up the features of a layer's input over all its positions, those left out that a mask leaves out.

    Args:
        inputs: A tensor; of a ragged one the rows that it has, of a sparse one the zeros too.
        axes: The axes that are features, counted from the end, in the order in which they are wanted; all others are
            positions.
        dtype: In which to add up, whatever the input has.
        guarded: Add nothing if the sum is not finite. Where a loss scale skips the step of such a batch, the sum would
            stay infinite for ever; elsewhere the gradient is not finite either, and nothing is lost with it.
        mask: What positions count, along the first axes of ``inputs``; any other mask says nothing of positions.

    Returns:
        A vector: the sum of each feature, and the number of positions.
    """
    inputs, mask = as_dense(inputs), mask if isinstance(inputs, tf.Tensor) else None
    rank = inputs.shape.rank
    if mask is None and tuple(axes) == (-1,) and rank in _FLAT:
        # The ones beside the input are there for its product with W* anyway, and the graph has them once.
        inputs = inputs if rank == min(_FLAT) else tf.reshape(inputs, (-1, inputs.shape[-1]))
        seen = tf.reduce_sum(tf.cast(with_ones(inputs), dtype), axis=0)
        return _if_finite(seen) if guarded else seen
    features = [axis % rank for axis in axes]
    positions = [axis for axis in range(rank) if axis not in features]
    values = tf.cast(inputs, dtype)
    if mask is not None and list(range(mask.shape.rank)) == positions[: mask.shape.rank]:
        # Not by a product, in which what is masked would be seen if it is not finite.
        spread = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (rank - mask.shape.rank)], 0))
        values = tf.where(tf.cast(spread, tf.bool), values, tf.zeros_like(values))
        count = tf.reduce_sum(tf.cast(mask, dtype)) * _number(
            values, [each for each in positions if each >= mask.shape.rank]
        )
    else:
        count = _number(values, positions)
    total = tf.reduce_sum(values, positions)
    if len(features) > 1:
        total = tf.reshape(tf.transpose(total, [sorted(features).index(each) for each in features]), (-1,))
    seen = tf.concat([total, count[tf.newaxis]], 0)
    return _if_finite(seen) if guarded else seen


def as_dense(inputs: Any) -> Any:
    """Return the positions of a layer's input as a dense tensor: of a ragged one those that it has."""
    if isinstance(inputs, tf.RaggedTensor):
        return inputs.flat_values
    return tf.sparse.to_dense(inputs) if isinstance(inputs, tf.SparseTensor) else tf.convert_to_tensor(inputs)


def _if_finite(seen: Any) -> Any:
    return tf.where(tf.reduce_all(tf.math.is_finite(seen)), seen, tf.zeros_like(seen))


def with_ones(rows: Any) -> Any:
    """Write a one behind each row of a matrix."""
    # Not tf.pad: in tf.vectorized_map that forgets what it pads with.
    return tf.concat([rows, tf.ones_like(rows[:, :1])], axis=1)


def _number(values: Any, axes: Sequence[int]) -> Any:
    """Return how many positions there are along some axes."""
    if not axes:
        return tf.ones((), values.dtype)
    shape = tf.shape(values)
    return tf.cast(shape[axes[0]] if len(axes) == 1 else tf.reduce_prod(tf.gather(shape, axes)), values.dtype)


def twin_of(variable: Any) -> Any:
    """Make a scalar that stands for an augmented kernel: its "gradient" is that of the kernel in other coordinates.

    Its shape is open: where a function that the model is called in is differentiated as a whole, TensorFlow compares
    the shapes of a tensor and its gradient.
    """
    with tf.init_scope(), tf.compat.v1.name_scope(None):
        zero = np.zeros((), stored_dtype(variable).as_numpy_dtype)
        return tf.Variable(zero, trainable=True, name="twin", shape=tf.TensorShape(None))


def can_have_twin(variable: Any) -> bool:
    """Tell whether the call that is under way can use a twin.

    A twin's gradient has the shape of the kernel. A condition or loop would add zeros of the twin's own shape to it,
    and several replicas have several means.
    """
    return not (has_strategy() or in_part_of_a_graph() or isinstance(variable, tf.distribute.DistributedValues))


def hold_while_kept(statistic: Any, observers: Any) -> None:
    """Do nothing: a statistic is the optimizer's, and goes with it."""
    del statistic, observers


def tell(statistic: Any, sums: Any, tensors: Any, now: bool = False) -> Any:
    """Add what a call has seen to a statistic; return tensors that the call uses, as they are."""
    del now
    statistic.assign_add(sums, read_value=False)
    return tensors


def statistic_like(variable: Any, name: str, shape: Sequence[int], decay: float | None = None) -> Any:
    """Make a variable of zeros for a statistic of an augmented kernel.

    Under ``tf.distribute`` each replica has one of its own, and outside of replicas it reads as their sum, or as that
    of the first if all have the same. It has float32, or float64 if the kernel has, under mixed precision too.

    Args:
        variable: The augmented kernel.
        name: What its name begins with.
        shape: Its shape.
        decay: By what :func:`decay_statistic` will multiply it, if it is one of those to which the calls of a layer
            add; ``None`` if all replicas have the same.
    """
    inner = stored_variable(variable)
    zeros = np.zeros(shape, np.float64 if stored_dtype(variable) == tf.float64 else np.float32)
    same = decay is None
    aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA if same else tf.VariableAggregation.SUM
    with tf.init_scope(), strategy_scope(inner), tf.compat.v1.name_scope(None), made_quickly():
        return tf.Variable(
            zeros,
            trainable=False,
            name=f"{name}/{inner.name.partition(':')[0]}",
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=aggregation,
        )


def share_over_replicas(statistics: Sequence[Any]) -> None:
    """Give each replica the same part of the sum of statistics over all; nothing changes where there is one replica.

    In the update of a variable a statistic reads as that of the replica, so copies of the variable would drift apart
    in silence if those were not the same.
    """
    if not has_strategy() or not statistics:
        return
    context = tf.distribute.get_replica_context()
    totals = context.all_reduce(tf.distribute.ReduceOp.SUM, [statistic.read_value() for statistic in statistics])
    for statistic, total in zip(statistics, totals, strict=True):
        statistic.assign(total / tf.cast(context.num_replicas_in_sync, total.dtype))


def refresh_if(
    predicate: Any, variables: Sequence[Any], read: Callable[[], Any], make: Callable[[Any], Sequence[Any]]
) -> None:
    """Give variables new values where something is true.

    Args:
        predicate: A scalar of truth.
        variables: The variables.
        read: Reads that of which the new values are made: tensors, in any structure.
        make: Makes the new values of that, one for each variable.
    """
    if is_compiled_by_xla():
        # It would copy all that the branch of a condition reads, so what is read is read before. To make the values in
        # every step, and choose, took 1.31 of Adam's step where this took 1.11 (1024 x 4, batch 32).
        old = [tf.convert_to_tensor(variable) for variable in variables]
        given = read()
        values = tf.cond(predicate, lambda: list(make(given)), lambda: old)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value, read_value=False)
        return

    def refresh() -> None:
        for variable, value in zip(variables, make(read()), strict=True):
            variable.assign(value, read_value=False)

    do_if(predicate, refresh)


def do_if(predicate: Any, do: Callable[[], Any]) -> list[Any]:
    """Do something where something is true; return the operation that does, in a graph.

    Args:
        predicate: A scalar of truth.
        do: Assigns to variables.
    """
    tf.cond(predicate, lambda: do() and None, lambda: None)
    if tf.executing_eagerly():
        return []
    made = tf.compat.v1.get_default_graph().get_operations()
    condition = next(each for each in reversed(made) if each.type == "If")
    # As one operation. TensorFlow would take it apart, into one for each thing that it reads, and whoever depends on it
    # would not have it done.
    condition._set_attr("_lower_using_switch_merge", attr_value_pb2.AttrValue(b=False))
    return [condition]


def decay_statistic(statistic: Any, decay: float, value: Any) -> None:
    """Multiply a statistic by a number, given its value."""
    if has_strategy() or tf.executing_eagerly():
        statistic.assign(decay * tf.convert_to_tensor(statistic), read_value=False)
    else:
        # One operation, where there are three.
        alpha = tf.constant(1 - decay, statistic.dtype)
        tf.raw_ops.ResourceApplyGradientDescent(var=statistic.handle, alpha=alpha, delta=value)
