"""What flows back to layers: measured by gradients of our own, and added to variables of an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rewriter.core.derived_classes import original_class
from rewriter.core.errors import RewriterError

from ..graphs.context import current_graph, from_outside, goes_back_through_loop, is_vectorized
from ..loss_scale import scale_for
from .statistics import do_if, share_over_replicas, statistic_like

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def carried(
    tensor: Any, statistics: Sequence[Any], guarded: bool, always: bool, optimizer: Any
) -> tuple[Any, tuple[Any, list[Any]]]:
    """Return a tensor to go on with, and what is to be given to :func:`measured`.

    Args:
        tensor: A tensor: where a gradient flows back to it, what was measured is added to the statistics.
        statistics: The statistics; the last one is told nothing, and its second number is 1 if this step is to add.
        guarded: Add nothing that is not finite.
        always: Whether every step adds.
        optimizer: The optimizer that they are for, or that inside a ``LossScaleOptimizer``.
    """
    told = statistics[-1]
    waiting: list[Callable[[], Sequence[Any]]] = []  # what will measure, as soon as it has flowed back to the results

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def carry(tensor: Any) -> Any:
        def gradient(of_tensor: Any, of_token: Any) -> Any:
            del of_token  # which only has this come after the results
            if waiting:
                _require_not_vectorized(optimizer, told)
                measure = waiting.pop()
                *held_sums, held_told = map(_Outside, statistics)
                count, due, last_scale = tf.unstack(held_told.read())

                def add() -> list[Any]:
                    scale = from_outside(lambda: scale_for(optimizer))
                    done = []
                    for statistic, value in zip(held_sums, measure(), strict=True):
                        finite = tf.reduce_all(tf.math.is_finite(value)) if guarded else True
                        kept = tf.where(finite, value, tf.zeros_like(value)) if guarded else value
                        if scale is not None:
                            # What steps have added before the first that was not skipped, at other scales, is not
                            # counted.
                            skipped = (count == 0) & (last_scale != tf.cast(scale, told.dtype))
                            done += [statistic.assign(tf.where(skipped, kept, statistic.read() + kept))]
                        else:
                            done += [statistic.assign_add(kept)]
                    if scale is not None:
                        done += [held_told.assign(tf.stack([count, due, tf.cast(scale, told.dtype)]))]
                    return done

                done = add() if always else do_if(due > 0, add)
                # What is called inside a tf.function of its own does on its way back what its gradients need, no more.
                with tf.control_dependencies([each for each in done if each is not None]):
                    return tf.identity(of_tensor)
            return of_tensor

        return (tf.identity(tensor), tf.zeros(())), gradient

    result, token = carry(tensor)
    return result, (token, waiting)


def _require_not_vectorized(optimizer: Any, told: Any) -> None:
    """Raise ``RewriterError`` where TensorFlow would vectorize what is measured: then it fails, far from its cause."""
    if is_vectorized():
        _, _, kernel = told.name.partition(":")[0].partition("/")
        raise RewriterError(
            f"{original_class(type(optimizer)).__name__} measures what flows back to {kernel}, and TensorFlow cannot "
            "vectorize that, for a Jacobian or in tf.vectorized_map. Call the model with training=False there: then "
            "it measures nothing."
        )


class _Outside:
    """A variable that is read and assigned on the way back, through loops too.

    There it has to be taken in from outside, by the handle that it has there: TensorFlow takes in no variable by itself
    on the way back through a loop, and orders what is done with a variable by its handle.
    """

    def __init__(self, variable: Any) -> None:
        self._variable, self._handle = variable, None
        if goes_back_through_loop():
            self._handle = from_outside(lambda: current_graph().capture(variable.handle))

    def read(self) -> Any:
        if self._handle is None:
            return tf.convert_to_tensor(self._variable)
        read = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=self._variable.dtype)
        return tf.ensure_shape(read, self._variable.shape)

    def assign(self, value: Any) -> Any:
        if self._handle is None:
            return self._variable.assign(value, read_value=False)
        return tf.raw_ops.AssignVariableOp(resource=self._handle, value=value)

    def assign_add(self, value: Any) -> Any:
        if self._handle is None:
            return self._variable.assign_add(value, read_value=False)
        return tf.raw_ops.AssignAddVariableOp(resource=self._handle, value=value)


def measured(
    results: Any,
    inputs: Any,
    carriers: tuple[Any, list[Any]],
    measure: Callable[[Any, Any], Sequence[Any]],
    optimizer: Any,
    always: bool,
) -> Any:
    """Return results as they are; what flows back to them is measured when it has flowed back to the kernel.

    Args:
        results: The results of a layer before its activation.
        inputs: What it was called with.
        carriers: As :func:`carried` gave them.
        measure: Measures moments, given the inputs and what flows back, a loss scale taken out.
        optimizer: The optimizer that they are for, or that inside a ``LossScaleOptimizer``.
        always: Of no meaning here.
    """
    del always
    token, waiting = carriers

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def measuring(results: Any, token: Any) -> Any:
        def gradient(flowing: Any) -> Any:
            flowing = tf.convert_to_tensor(flowing)

            def moments() -> Sequence[Any]:
                scale = from_outside(lambda: scale_for(optimizer))
                back = tf.cast(flowing, inputs.dtype)
                return measure(inputs, back if scale is None else back / tf.cast(scale, back.dtype))

            # In place of one that waits still: of gradients to which the kernel was nothing.
            waiting[:] = [moments]
            return flowing, tf.zeros_like(token)

        return tf.identity(results), gradient

    return measuring(results, token)


def patches(layer: Any, inputs: Any) -> Any:
    """Return what each position of a convolution's result reads, as if that many filters each gave one number of it.

    Args:
        layer: A convolution of one group.
        inputs: Its input.
    """
    channels = inputs.shape[-1 if layer.data_format == "channels_last" else 1]
    window = tuple(layer.kernel_size)
    size = channels * tf.TensorShape(window).num_elements()
    if layer._is_causal:
        inputs = tf.pad(inputs, layer._compute_causal_padding(inputs))
    return layer.convolution_op(inputs, tf.reshape(tf.eye(size, dtype=inputs.dtype), (*window, channels, size)))


def told_like(variable: Any, decay: float, every: int) -> Any:
    """Make what the moments of an augmented kernel are told by: how many steps have added, and if this one is to.

    Args:
        variable: The augmented kernel.
        decay: How much an older step counts.
        every: After how many steps one adds.
    """
    del decay, every
    told = statistic_like(variable, "measured", (3,))  # and at which loss scale was added last
    told.assign([0.0, 1.0, 0.0])
    return told


def moment_like(variable: Any, name: str, shape: Sequence[int], told: Any, *, squares_gradients: bool) -> Any:
    """Make a variable of zeros for a moment of an augmented kernel.

    Args:
        variable: The augmented kernel.
        name: What its name begins with.
        shape: Its shape.
        told: What it is told by.
        squares_gradients: Of no meaning here: a loss scale is taken out before.
    """
    del told, squares_gradients
    return statistic_like(variable, name, shape, 1.0)


def count_moments(moments: Sequence[tuple[Sequence[Any], Any]]) -> None:
    """Share what was added in a step over the replicas, and count the step; called before the variables move.

    Args:
        moments: Of each layer the moments, and what they are told by.
    """
    share_over_replicas([each for sums, _ in moments for each in sums])
    for _, told in moments:
        told.assign(tf.stack([told[0] + told[1], told[1], told[2]]), read_value=False)


def forget_moments(moments: Sequence[tuple[Sequence[Any], Any]], decay: float, every: int, steps: Any) -> None:
    """Let moments weigh less, and say whether the next step adds; called after the variables moved.

    Args:
        moments: Of each layer the moments, and what they are told by.
        decay: By what they are multiplied, where the step has added.
        every: After how many steps one adds.
        steps: How many steps have been taken.
    """
    told_now = [tf.unstack(tf.convert_to_tensor(told)) for _, told in moments]
    weights = [tf.where(due > 0, tf.constant(decay, due.dtype), tf.ones((), due.dtype)) for _, due, _ in told_now]

    def forget() -> None:
        for (sums, _), weight in zip(moments, weights, strict=True):
            for each in sums:
                each.assign(weight * tf.convert_to_tensor(each), read_value=False)

    if every == 1:
        forget()
    elif moments:
        do_if(tf.reduce_any([due > 0 for _, due, _ in told_now]), forget)
    next_due = tf.equal(steps % every, 0)
    for (_, told), (count, _, scale), weight in zip(moments, told_now, weights, strict=True):
        # An optimizer that was built in its first step has seen nothing in that.
        due = tf.cast(next_due | (count == 0), told.dtype)
        told.assign(tf.stack([weight * count, due, scale]), read_value=False)


def replicas_of_loss() -> int:
    """Return by what moments of gradients are multiplied, if each replica has an equal part of the sum over all."""
    # The loss is a mean over all replicas, of which each counts its own positions.
    count: int = tf.distribute.get_strategy().num_replicas_in_sync
    return count**2
