"""What flows back to layers: measured by gradients of our own, and so the gradients of statistics that layers keep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras

from ..ops import cond
from .layer_statistics import EVERY, TOLD, statistic_like

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ops = keras.ops


def carried(
    tensor: Any, statistics: Sequence[Any], guarded: bool, always: bool, optimizer: Any
) -> tuple[Any, list[Any]]:
    """Return a tensor to go on with, and for each statistic one to be given to :func:`measured`.

    Args:
        tensor: A tensor: where a gradient flows back to it, one flows back to the statistics.
        statistics: The statistics; the last one is told nothing, and its second number is 1 if this step is to add.
        guarded: Of no meaning here: where a loss scale skips a step, the optimizer is not called.
        always: Of no meaning here.
        optimizer: Of no meaning here.
    """
    del guarded, always, optimizer
    return tensor, [ops.convert_to_tensor(each) for each in statistics]


def for_way_back(tensor: Any) -> Any:
    """Return a tensor as what is traced now may use it on its way back: of a branch in TensorFlow, only its own."""
    return ops.copy(tensor) if keras.config.backend() == "tensorflow" else tensor


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
        measure: Measures moments, given the inputs and what flows back.
        optimizer: Of no meaning here: its step takes out a loss scale.
        always: Whether every step adds.
    """
    del optimizer
    if keras.config.backend() == "torch":
        from ..fused.torch_steps import Measured  # noqa: PLC0415  of this backend alone

        return Measured.apply(measure, results, inputs.detach(), *carriers)

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def measuring(results: Any, inputs: Any, *carriers: Any) -> Any:
        *of_sums, told = carriers

        def gradients(flowing: Any) -> Any:
            back = ops.cast(flowing, inputs.dtype)
            zeros = [ops.zeros_like(each) for each in of_sums]
            found = (
                measure(inputs, back)
                if always
                else cond(told[1] > 0, lambda: list(measure(inputs, back)), lambda: zeros)
            )
            return (flowing, ops.zeros_like(inputs), *found, ops.zeros_like(told))

        return results, gradients

    return measuring(results, ops.stop_gradient(inputs), *carriers)


def patches(layer: Any, inputs: Any) -> Any:
    """Return what each position of a convolution's result reads, as if that many filters each gave one number of it.

    Args:
        layer: A convolution of one group.
        inputs: Its input.
    """
    channels = inputs.shape[-1 if layer.data_format == "channels_last" else 1]
    window, padding = tuple(layer.kernel_size), layer.padding
    size = channels * math.prod(window)
    if padding == "causal":
        inputs, padding = ops.pad(inputs, layer._compute_causal_padding()), "valid"
    kernel = ops.reshape(ops.eye(size, dtype=inputs.dtype), (*window, channels, size))
    return ops.conv(inputs, kernel, list(layer.strides), padding, layer.data_format, layer.dilation_rate)


def told_like(variable: Any, decay: float, every: int) -> Any:
    """Make what the moments of an augmented kernel are told by: how many steps have added, and if this one is to.

    Args:
        variable: The augmented kernel.
        decay: How much an older step counts.
        every: After how many steps one adds.
    """
    told = statistic_like(variable, "measured", (2,), decay)
    told.assign([0.0, 1.0])
    object.__setattr__(told, EVERY, every)
    return told


def moment_like(variable: Any, name: str, shape: Sequence[int], told: Any, *, squares_gradients: bool) -> Any:
    """Make a variable of zeros for a moment of an augmented kernel.

    Args:
        variable: The augmented kernel.
        name: Its name, in the scope of the kernel's.
        shape: Its shape.
        told: What it is told by.
        squares_gradients: Whether a loss scale is in it, and twice.
    """
    moment = statistic_like(variable, name, shape, 1.0)
    object.__setattr__(moment, TOLD, (told, squares_gradients))
    return moment


def count_moments(moments: Sequence[tuple[Sequence[Any], Any]]) -> None:
    """Do nothing: the optimizer counts when it adds."""
    del moments


def forget_moments(moments: Sequence[tuple[Sequence[Any], Any]], decay: float, every: int, steps: Any) -> None:
    """Do nothing: moments count less when the next step adds to them."""
    del moments, decay, every, steps


def replicas_of_loss() -> int:
    """Return by what moments of gradients are multiplied, given the sum over all replicas of TensorFlow."""
    if keras.config.backend() != "tensorflow":
        return 1  # of JAX a batch is one over all devices, and torch takes the mean over its processes
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    count: int = tf.distribute.get_strategy().num_replicas_in_sync
    return count
