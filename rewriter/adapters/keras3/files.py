"""Files: reads models, and turns models, optimizers and schedules into configs and back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import keras
from keras.src.legacy.saving import saving_utils

from .observation.layer_statistics import hidden_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

FILE_ERRORS: tuple[type[Exception], ...] = ()


def load_model(path: str, **options: Any) -> Any:
    """Read a model as Keras does."""
    return keras.saving.load_model(path, **options)


def save(model: Any, path: str, kind: str, **options: Any) -> None:
    """Write a model as Keras does, in the format that its path names."""
    del kind
    # When Keras writes .h5 it takes the optimizer out of what the model was compiled with, and the next file has none.
    compiled = dict(getattr(getattr(model, "_compile_config", None), "config", None) or {})
    with contextlib.ExitStack() as hidden:
        for layer in model._flatten_layers():  # .h5 would have statistics among the weights, and reads those first
            hidden.enter_context(hidden_statistics(layer))
        try:
            type(model).save(model, path, **options)
        finally:
            if compiled:
                model._compile_config.config.update(compiled)


def observed_variables(observe: Callable[[int], None]) -> Any:
    """Do nothing: the variables of Keras 3 are not counted as they are made."""
    del observe
    return contextlib.nullcontext()


def optimizer_to_config(optimizer: Any) -> dict[str, Any]:
    """Describe an optimizer as JSON data."""
    config: dict[str, Any] = keras.optimizers.serialize(optimizer)
    return config


def optimizer_from_config(config: dict[str, Any]) -> Any:
    """Make the optimizer that :func:`optimizer_to_config` described."""
    return keras.optimizers.deserialize(config)


def schedule_from_config(config: dict[str, Any], custom_objects: Any = None) -> Any:
    """Make the learning rate schedule that a config describes."""
    return keras.optimizers.schedules.deserialize(config, custom_objects=custom_objects)


def model_to_config(model: Any) -> dict[str, Any]:
    """Describe a model as JSON data."""
    config: dict[str, Any] = keras.saving.serialize_keras_object(model)
    return config


def model_from_config(config: dict[str, Any]) -> Any:
    """Make the model that a config describes, of the current form or, from an ``.h5`` file, of the legacy one."""
    of_its_form = keras.saving.deserialize_keras_object if "module" in config else saving_utils.model_from_config
    return of_its_form(config)


def saves_its_variables_as_keras_does(layer: Any) -> bool:
    """Tell whether a layer writes its variables into a ``.keras`` file as Keras's base class does."""
    return type(layer).save_own_variables is keras.Layer.save_own_variables
