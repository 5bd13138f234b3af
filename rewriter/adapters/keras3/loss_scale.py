"""Optional: a loss scale around an optimizer, as mixed precision needs."""

from __future__ import annotations

from typing import Any

import keras

from . import ops

# On an optimizer: the LossScaleOptimizer around it.
WRAPPER = "_rewriter_wrapper"


def scale_of(wrapper: Any) -> float:
    """Read the present scale of a ``LossScaleOptimizer``."""
    built = getattr(wrapper, "built", False)
    return float(ops.convert_to_numpy(wrapper.dynamic_scale) if built else wrapper.initial_scale)


def scale_for(optimizer: Any) -> Any:
    """Return by what the loss is multiplied for an optimizer, by its own setting or one around it; ``None`` if not."""
    wrapper = getattr(optimizer, WRAPPER, lambda: None)()
    return optimizer.loss_scale_factor if wrapper is None else wrapper.dynamic_scale


def wrap(optimizer: Any) -> Any:
    """Put an optimizer into a ``LossScaleOptimizer``."""
    return keras.optimizers.LossScaleOptimizer(optimizer)


def wrap_like(wrapper: Any, optimizer: Any) -> Any:
    """Wrap an optimizer in a ``LossScaleOptimizer`` like that of another optimizer, which begins with its scale."""
    scaled = keras.optimizers.LossScaleOptimizer
    if not isinstance(wrapper, scaled) or isinstance(optimizer, scaled):
        return optimizer
    return scaled(optimizer, initial_scale=scale_of(wrapper), dynamic_growth_steps=wrapper.dynamic_growth_steps)
