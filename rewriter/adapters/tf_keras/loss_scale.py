"""Optional: a loss scale around an optimizer, as mixed precision needs."""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf
import tf_keras

from ..instances import instances_alive

# On an optimizer: the LossScaleOptimizer around it.
_WRAPPER = "_rewriter_wrapper"


def scale_of(wrapper: Any) -> float:
    """Read the present scale of a ``LossScaleOptimizer``."""
    return float(wrapper.loss_scale)


def surrounds(optimizer: Any) -> bool:
    """Tell whether an optimizer is in a ``LossScaleOptimizer``, which may skip its steps."""
    return bool(getattr(optimizer, "_is_wrapped_by_loss_scale_optimizer", False))


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def scale_for(optimizer: Any) -> Any:
    """Return the present scale of the ``LossScaleOptimizer`` around an optimizer, ``None`` if there is none."""
    if not surrounds(optimizer):
        return None
    wrapper = getattr(optimizer, _WRAPPER, lambda: None)()
    if wrapper is None:
        scaled = instances_alive(tf_keras.mixed_precision.LossScaleOptimizer)
        wrapper = next(each for each in scaled if each.inner_optimizer is optimizer)
        object.__setattr__(optimizer, _WRAPPER, weakref.ref(wrapper))
    return wrapper.loss_scale


def wrap(optimizer: Any) -> Any:
    """Put an optimizer into a ``LossScaleOptimizer``."""
    return tf_keras.mixed_precision.LossScaleOptimizer(optimizer)


def wrap_like(wrapper: Any, optimizer: Any) -> Any:
    """Wrap an optimizer in a ``LossScaleOptimizer`` like that of another optimizer, with its present scale."""
    if not isinstance(wrapper, tf_keras.mixed_precision.LossScaleOptimizer):
        return optimizer
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
        return optimizer
    wrapped = tf_keras.mixed_precision.LossScaleOptimizer(
        optimizer,
        dynamic=wrapper.dynamic,
        initial_scale=wrapper.initial_scale,
        dynamic_growth_steps=wrapper.dynamic_growth_steps,
    )
    if wrapper.dynamic:
        wrapped._loss_scale.current_loss_scale.assign(wrapper.loss_scale)
        wrapped._loss_scale.counter.assign(wrapper.dynamic_counter)
    return wrapped
