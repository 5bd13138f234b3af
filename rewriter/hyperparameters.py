"""Hyperparameters: checked when an optimizer is made, and found again when it is saved.

Each argument of a constructor is kept under its own name, as in scikit-learn, so that the base of all joint optimizers
can write and read the settings of any.
"""

from __future__ import annotations

import difflib
import inspect
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras

from rewriter import keras_internals

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


# Settings as other libraries call them; tf-keras warns of the first in its log, and trains with another.
_ALSO_CALLED = {"lr": "learning_rate", "beta": "momentum", "beta_1": "momentum", "mu": "momentum"}


def require_number(name: str, value: Any, low: float, high: float = math.inf, optional: bool = False) -> None:
    """Raise ``ValueError`` unless a hyperparameter is a number from ``low`` to ``high``, or ``None`` if optional."""
    if optional and value is None:
        return
    legal = f"a number in [{low:g}, {high:g}]" if high < math.inf else f"a finite number >= {low:g}"
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (low <= number <= high and math.isfinite(number)):
        raise ValueError(f"{name} must be {legal}{' or None' if optional else ''}, got {value!r}.")


def require_learning_rate(value: Any) -> None:
    """Raise ``ValueError`` unless a learning rate is a number of at least 0 or a schedule."""
    if isinstance(value, tf_keras.optimizers.schedules.LearningRateSchedule):
        return
    try:
        require_number("learning_rate", value, 0)
    except ValueError as error:
        raise ValueError(f"{str(error).partition(', got')[0]} or a LearningRateSchedule, got {value!r}.") from None


def require_count(name: str, value: Any, optional: bool = False) -> None:
    """Raise ``ValueError`` unless a hyperparameter is a whole number of at least 1, or ``None`` if optional."""
    if optional and value is None:
        return
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        raise ValueError(f"{name} must be a whole number >= 1{' or None' if optional else ''}, got {value!r}.")


def require_one_of(name: str, value: Any, legal: Collection[Any]) -> None:
    """Raise ``ValueError`` unless a hyperparameter is one of some values."""
    if value not in list(legal):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, legal))}, got {value!r}.")


def settings_named(cls: type, base: type) -> tuple[set[str], bool]:
    """List the arguments that a class takes, down from a base, and tell whether it takes any others.

    A constructor that ends in ``**kwargs`` passes them on to that of its parent.
    """
    named = set()
    for each in cls.__mro__[: cls.__mro__.index(base) + 1]:
        if "__init__" in vars(each):
            parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
            named |= {p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return named, False
    return named, True


def require_known(cls: type, base: type, given: Collection[str]) -> None:
    """Raise ``TypeError`` for an argument that a class does not take, down from a base, and say which it takes."""
    named = sorted(settings_named(cls, base)[0])
    for name in given:
        meant = _ALSO_CALLED.get(name) or next(iter(difflib.get_close_matches(name, named)), None)
        hint = f" Did you mean {meant}=?" if meant in named else ""
        raise TypeError(f"{cls.__name__} takes no {name}=.{hint} It takes {', '.join(named)}.")


def kept_setting(optimizer: Any, name: str) -> Any:
    """Read a setting of an optimizer; ``TypeError`` where it is not kept under its own name or no file can hold it.

    Tensors and arrays become numbers and lists, as Keras would write their kind into a file and not what they hold.
    """
    if not hasattr(optimizer, name):
        raise TypeError(
            f"{type(optimizer).__name__} does not keep its argument {name}; write self.{name} = {name} in __init__."
        )
    value = getattr(optimizer, name)
    if callable(value) and not isinstance(value, tf_keras.optimizers.schedules.LearningRateSchedule):
        raise TypeError(
            f"{type(optimizer).__name__} keeps a function as {name}, which no file holds; take its name instead."
        )
    return np.asarray(value).tolist() if tf.is_tensor(value) or isinstance(value, np.ndarray | np.generic) else value


def settings_changed(optimizer: Any, again: Any, base: type) -> dict[str, tuple[Any, Any]]:
    """Compare the settings that a base class has in two optimizers: by name what differs, in one and in the other."""
    return {
        name: settings
        for name in sorted(settings_named(base, base)[0])
        if not is_same(*(settings := (_setting(optimizer, name), _setting(again, name))))
    }


def _setting(optimizer: Any, name: str) -> Any:
    if name != "learning_rate":
        return getattr(optimizer, name)
    rate = keras_internals.learning_rate_of(optimizer)
    return type(rate) if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule) else rate


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two settings are the same; numbers, if an optimizer that computes in float32 cannot tell them."""
    numbers = all(isinstance(each, int | float | np.number) for each in (one, other))
    return bool(np.float32(one) == np.float32(other) if numbers else one == other)


def with_schedules(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make the schedules of a config, in which objects are described by class and config, objects again."""

    def made(value: Any) -> Any:
        if not (isinstance(value, dict) and {"class_name", "config"} <= value.keys()):
            return value
        return tf_keras.optimizers.schedules.deserialize(value, custom_objects=custom_objects)

    return {name: made(value) for name, value in config.items()}
