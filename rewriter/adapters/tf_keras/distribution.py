"""Distribution: under which ``tf.distribute`` strategy models, optimizers and variables were made."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.distribute.distribute_lib import _get_default_strategy

if TYPE_CHECKING:
    from collections.abc import Callable


def strategy_of(holder: Any) -> Any:
    """Tell under which strategy a model, an optimizer or a variable was made, ``None`` for none."""
    inner = getattr(holder, "inner_optimizer", holder)
    # A model of no strategy would answer distribute_strategy with the one in whose scope it is asked. A variable of a
    # OneDeviceStrategy is a plain one, with a mark.
    attributes = ("_distribution_strategy", "distribute_strategy", "_distribute_strategy")
    if isinstance(inner, tf.Module) and not hasattr(inner, "distribute_strategy") and inner.variables:
        inner = inner.variables[0]  # a layer that is no model
    strategy = next((getattr(inner, name) for name in attributes if hasattr(inner, name)), None)
    return None if strategy is _get_default_strategy() else strategy


def strategy_scope(holder: Any) -> Any:
    """Make what is created inside belong to the strategy of a model, an optimizer or a variable."""
    strategy = strategy_of(holder)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def in_foreign_scope(holder: Any) -> bool:
    """Tell whether we are in the scope of a strategy other than the one something was made under."""
    return tf.distribute.has_strategy() and strategy_of(holder) is not tf.distribute.get_strategy()


def has_strategy() -> bool:
    """Tell whether a strategy other than the default is active."""
    return bool(tf.distribute.has_strategy())


def is_chief(holder: Any) -> bool:
    """Tell whether this process writes the files: of several workers only the chief does."""
    strategy = strategy_of(holder)
    return strategy is None or bool(strategy.extended.should_checkpoint)


def update_on_every_replica(optimizer: Any, variable: Any, update: Callable[[Any], None]) -> None:
    """Run an update on a variable, or under ``tf.distribute`` on its copy on each replica, as Keras does its own."""

    def on_all(strategy: Any, variable: Any) -> None:
        strategy.extended.update(variable, update, group=False)

    merge_call = tf.__internal__.distribute.interim.maybe_merge_call
    merge_call(on_all, optimizer._distribution_strategy, variable)
