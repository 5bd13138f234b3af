"""Checks hyperparameters when an optimizer is made: what was given, what is legal, what was meant."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import keras
from .saved_settings import argument_names

if TYPE_CHECKING:
    from collections.abc import Collection


# Settings as other libraries call them; tf-keras warns of the first in its log, and trains with another.
_ALSO_CALLED = {"lr": "learning_rate", "beta": "momentum", "beta_1": "momentum", "mu": "momentum"}


def scalar(value: Any, dtype: Any) -> Any:
    """Return a setting as a scalar tensor of some dtype, not rounded before: ``tf.cast`` takes a float for a float32.

    Args:
        value: A number, a tensor or a variable.
        dtype: The dtype of the variable that it acts on.
    """
    return keras.ops.cast(value, dtype) if keras.ops.owns(value) else keras.ops.convert_to_tensor(value, dtype)


def require_number(name: str, value: Any, low: float, high: float = math.inf, optional: bool = False) -> None:
    """Raise ``ValueError`` unless a hyperparameter is a number from ``low`` to ``high``, or ``None`` if optional."""
    if not ((optional and value is None) or _is_number(value, low, high)):
        raise ValueError(f"{name} must be {_legal(low, high)}{' or None' if optional else ''}, got {value!r}.")


def require_positive(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless a hyperparameter is a number above 0."""
    if not (_is_number(value, 0) and value > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}.")


def require_decay(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless a hyperparameter is a number of at least 0 and below 1, as its bias is corrected."""
    if not (_is_number(value, 0, 1) and value < 1):
        raise ValueError(f"{name} must be a number in [0, 1), got {value!r}.")


def require_learning_rate(value: Any, name: str = "learning_rate") -> None:
    """Raise ``ValueError`` unless a learning rate, or what is like one, is a number of at least 0 or a schedule."""
    if not (isinstance(value, keras.Schedule) or _is_number(value, 0)):
        raise ValueError(f"{name} must be {_legal(0)} or a LearningRateSchedule, got {value!r}.")


def _is_number(value: Any, low: float, high: float = math.inf) -> bool:
    try:
        # What is true or false is none, though Python, NumPy and TensorFlow make one of it.
        is_flag = isinstance(value, bool) or getattr(getattr(value, "dtype", None), "name", "").startswith("bool")
        number = math.nan if is_flag or isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return low <= number <= high and math.isfinite(number)


def _legal(low: float, high: float = math.inf) -> str:
    return f"a number in [{low:g}, {high:g}]" if high < math.inf else f"a finite number >= {low:g}"


def require_count(name: str, value: Any, optional: bool = False) -> None:
    """Raise ``ValueError`` unless a hyperparameter is a whole number of at least 1, or ``None`` if optional."""
    if optional and value is None:
        return
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        raise ValueError(f"{name} must be a whole number >= 1{' or None' if optional else ''}, got {value!r}.")


def names_in(name: str, value: Any) -> list[str] | None:
    """List names, given as one or as several; ``None`` for ``None``, and ``ValueError`` for what is neither."""
    names = [value] if isinstance(value, str) else value
    if not (names is None or (isinstance(names, Iterable) and all(isinstance(each, str) for each in names))):
        raise ValueError(f"{name} must be names, or None, got {value!r}.")
    return None if names is None else list(names)


def require_one_of(name: str, value: Any, legal: Collection[Any]) -> None:
    """Raise ``ValueError`` unless a hyperparameter is one of some values."""
    if not ((value is None or isinstance(value, str)) and value in list(legal)):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, legal))}, got {value!r}.")


def require_known(cls: type, given: Collection[str]) -> None:
    """Raise ``TypeError`` for an argument that a class of joint optimizers does not take, and say which it takes."""
    named = sorted(argument_names(cls)[0])
    for name in given:
        meant = [_ALSO_CALLED[name]] if name in _ALSO_CALLED else closest(name, named)
        hint = did_you_mean([each for each in meant if each in named])
        raise TypeError(f"{cls.__name__} takes no {name}=.{hint} It takes {', '.join(named)}.")
