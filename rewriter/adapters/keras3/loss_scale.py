"""Optional: a loss scale around an optimizer, as mixed precision needs."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope

from . import ops

# On an optimizer: the LossScaleOptimizer around it.
WRAPPER = "_rewriter_wrapper"


def scale_of(wrapper: Any) -> float:
    """Read the present scale of a ``LossScaleOptimizer``."""
    built = getattr(wrapper, "built", False)
    return float(ops.convert_to_numpy(wrapper.dynamic_scale) if built else wrapper.initial_scale)


def surrounds(optimizer: Any) -> bool:
    """Tell whether an optimizer is in a ``LossScaleOptimizer``, which may skip its steps."""
    return getattr(optimizer, WRAPPER, lambda: None)() is not None


def scale_for(optimizer: Any) -> Any:
    """Return by what the loss is multiplied for an optimizer, by its own setting or one around it; ``None`` if not."""
    wrapper = getattr(optimizer, WRAPPER, lambda: None)()
    if wrapper is None:
        return optimizer.loss_scale_factor
    # The scope of a stateless step of the optimizer knows its own variables, and that around it those of the wrapper.
    scope = get_stateless_scope() if in_stateless_scope() else None
    while scope is not None and scope.get_current_value(wrapper.dynamic_scale) is None:
        scope = scope.original_scope
    return wrapper.dynamic_scale if scope is None else scope.get_current_value(wrapper.dynamic_scale)


def wrap(optimizer: Any) -> Any:
    """Put an optimizer into a ``LossScaleOptimizer``."""
    return keras.optimizers.LossScaleOptimizer(optimizer)


def wrap_like(wrapper: Any, optimizer: Any) -> Any:
    """Wrap an optimizer in a ``LossScaleOptimizer`` like that of another optimizer, which begins with its scale."""
    scaled = keras.optimizers.LossScaleOptimizer
    if not isinstance(wrapper, scaled) or isinstance(optimizer, scaled):
        return optimizer
    return scaled(optimizer, initial_scale=scale_of(wrapper), dynamic_growth_steps=wrapper.dynamic_growth_steps)
