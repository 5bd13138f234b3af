"""The settings of an optimizer, to a file and back.

Each argument of a constructor is kept under its own name, as in scikit-learn, so that the base of all joint optimizers
can write and read the settings of any.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adapters import OptimizerBase, keras

if TYPE_CHECKING:
    from collections.abc import Mapping


class _NotInFilesError(TypeError):
    """A setting is a function."""


class KeptSettings(OptimizerBase):
    """A Keras optimizer that keeps each argument of ``__init__`` under its own name, and so has them all in files."""

    def get_config(self) -> dict[str, Any]:
        """Return the settings, those of subclasses among them, ready for ``from_config``.

        Raises:
            TypeError: An argument of ``__init__`` is not kept under its own name, or is a function.
        """
        config = self._rewriter_settings()
        named, takes_others = argument_names(type(self))
        config |= {name: _kept(self, name) for name in named - config.keys()}
        serialized = {name: keras.serialized_setting(self, value) for name, value in config.items()}
        return serialized if takes_others else {name: serialized[name] for name in named}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        """Make an optimizer of the settings of :meth:`get_config`, schedules among them."""
        return super().from_config(_with_schedules(config, custom_objects), custom_objects)

    def require_saveable(self) -> None:
        """Raise ``TypeError`` unless the optimizer can be made again from its settings, as reading a file does."""
        name = type(self).__name__
        try:
            again = type(self).from_config(self.get_config())
        except _NotInFilesError:
            raise
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name} cannot be made again from its settings ({error}). Its __init__ must take every "
                "setting that its parents have, by **kwargs, and keep each of its own as self.<name>."
            ) from error
        for setting, (before, after) in _changed(self, again).items():
            raise TypeError(
                f"{name} cannot be made again from its settings: {setting} is {before!r}, and {after!r} in what "
                "get_config and from_config make. get_config must also return what super().get_config() "
                "returns. Or write no get_config, and keep each argument of __init__ as self.<name>."
            )


def argument_names(cls: type) -> tuple[set[str], bool]:
    """List the arguments that a class takes, down from the base of all, and tell whether it takes any others.

    A constructor that ends in ``**kwargs`` passes them on to that of its parent.
    """
    named = set()
    for each in cls.__mro__[: cls.__mro__.index(_base_of(cls)) + 1]:
        if "__init__" in vars(each):
            parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
            named |= {p.name for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return named, False
    return named, True


def _base_of(cls: type) -> type:
    return next(each for each in cls.__mro__ if KeptSettings in each.__bases__)


def _kept(optimizer: Any, name: str) -> Any:
    """Read a setting of an optimizer; ``TypeError`` where it is not kept under its own name or no file can hold it.

    Tensors and arrays become numbers and lists, as Keras would write their kind into a file and not what they hold.
    """
    if not hasattr(optimizer, name):
        raise TypeError(
            f"{type(optimizer).__name__} does not keep its argument {name}; write self.{name} = {name} in __init__."
        )
    value = getattr(optimizer, name)
    if callable(value) and not isinstance(value, keras.Schedule):
        instead = "give paths" if name in {"include", "exclude"} else "take its name"
        raise _NotInFilesError(
            f"{type(optimizer).__name__} keeps a function as {name}, which no file holds; {instead} instead."
        )
    value = keras.ops.convert_to_numpy(value) if keras.ops.owns(value) else value
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _changed(optimizer: Any, again: Any) -> dict[str, tuple[Any, Any]]:
    """Compare the settings of every joint optimizer in two of them: by name what differs, in one and in the other."""
    return {
        name: settings
        for name in sorted(argument_names(_base_of(type(optimizer)))[0])
        if not _is_same(*(settings := (_setting(optimizer, name), _setting(again, name))))
    }


def _setting(optimizer: Any, name: str) -> Any:
    if name != "learning_rate":
        return getattr(optimizer, name)
    rate = keras.learning_rate_of(optimizer)
    return type(rate) if isinstance(rate, keras.Schedule) else rate


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether two settings are the same; numbers, if an optimizer that computes in float32 cannot tell them."""
    numbers = all(isinstance(each, int | float | np.number) for each in (one, other))
    return bool(np.float32(one) == np.float32(other) if numbers else one == other)


def _with_schedules(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None) -> dict[str, Any]:
    """Make the schedules of a config, in which objects are described by class and config, objects again."""

    def made(value: Any) -> Any:
        if not (isinstance(value, dict) and {"class_name", "config"} <= value.keys()):
            return value
        return keras.schedule_from_config(value, custom_objects)

    return {name: made(value) for name, value in config.items()}
