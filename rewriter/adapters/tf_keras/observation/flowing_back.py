"""What flows back to layers: measured by gradients of our own, and added to variables of an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ..loss_scale import scale_for
from .statistics import share_over_replicas, statistic_like

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def carried(
    tensor: Any, statistics: Sequence[Any], guarded: bool, always: bool, optimizer: Any
) -> tuple[Any, list[Any]]:
    """Return a tensor to go on with, and for each statistic one to be given to :func:`measured`.

    Args:
        tensor: A tensor: where a gradient flows back to it, what flows back to the others is added to the statistics.
        statistics: The statistics; the last one is told nothing, and its second number is 1 if this step is to add.
        guarded: Add nothing that is not finite.
        always: Whether every step adds.
        optimizer: The optimizer that they are for, or that inside a ``LossScaleOptimizer``.
    """
    *sums, told = statistics

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def carry(tensor: Any) -> Any:
        carriers = [tf.zeros(each.shape, each.dtype) for each in statistics]

        def gradient(of_tensor: Any, *flowing: Any) -> Any:
            def add() -> None:
                scale = scale_for(optimizer)
                for statistic, value in zip(sums, flowing, strict=False):
                    finite = tf.reduce_all(tf.math.is_finite(value)) if guarded else True
                    kept = tf.where(finite, value, tf.zeros_like(value))
                    if scale is not None:
                        # What steps have added before the first that was not skipped, at other scales, is not counted.
                        skipped = (told[0] == 0) & (told[2] != tf.cast(scale, told.dtype))
                        statistic.assign(tf.where(skipped, kept, statistic + kept), read_value=False)
                    else:
                        statistic.assign_add(kept, read_value=False)
                if scale is not None:
                    told.assign(tf.stack([told[0], told[1], tf.cast(scale, told.dtype)]), read_value=False)

            add() if always else tf.cond(tf.convert_to_tensor(told)[1] > 0, add, lambda: None)
            return of_tensor

        return (tf.identity(tensor), *carriers), gradient

    result, *carriers = carry(tensor)
    return result, [*carriers[:-1], tf.convert_to_tensor(told)]


def measured(
    results: Any,
    inputs: Any,
    carriers: Sequence[Any],
    measure: Callable[[Any, Any], Sequence[Any]],
    optimizer: Any,
    always: bool,
) -> Any:
    """Return results as they are; on the way back what is measured flows to the carriers.

    Args:
        results: The results of a layer before its activation.
        inputs: What it was called with.
        carriers: As :func:`carried` gave them.
        measure: Measures moments, given the inputs and what flows back, a loss scale taken out.
        optimizer: The optimizer that they are for, or that inside a ``LossScaleOptimizer``.
        always: Whether every step adds.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def measuring(results: Any, *carriers: Any) -> Any:
        *of_sums, told = carriers

        def gradient(flowing: Any) -> Any:
            def moments() -> list[Any]:
                scale = scale_for(optimizer)
                back = tf.cast(flowing, inputs.dtype)
                return list(measure(inputs, back if scale is None else back / tf.cast(scale, back.dtype)))

            flowing = tf.convert_to_tensor(flowing)
            zeros = [tf.zeros_like(each) for each in of_sums]
            found = moments() if always else tf.cond(told[1] > 0, moments, lambda: zeros)
            return (flowing, *found, tf.zeros_like(told))

        return tf.identity(results), gradient

    return measuring(results, *carriers)


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


def forget_moments(sums: Sequence[Any], told: Any, decay: float, every: int, steps: Any) -> None:
    """Let moments weigh less, and say whether the next step adds; called after the variables moved.

    Args:
        sums: The moments of a layer.
        told: What they are told by.
        decay: By what they are multiplied, where the step has added.
        every: After how many steps one adds.
        steps: How many steps have been taken.
    """
    added = tf.convert_to_tensor(told)[1] > 0

    def forget() -> None:
        for each in sums:
            each.assign(decay * tf.convert_to_tensor(each), read_value=False)

    if every == 1:
        forget()
    else:
        tf.cond(added, forget, lambda: None)
    due = tf.cast(tf.equal(steps % every, 0), told.dtype)
    weight = tf.where(added, tf.constant(decay, told.dtype), tf.ones((), told.dtype))
    told.assign(tf.stack([weight * told[0], due, told[2]]), read_value=False)


def replicas_of_loss() -> int:
    """Return by what moments of gradients are multiplied, if each replica has an equal part of the sum over all."""
    # The loss is a mean over all replicas, of which each counts its own positions.
    count: int = tf.distribute.get_strategy().num_replicas_in_sync
    return count**2
