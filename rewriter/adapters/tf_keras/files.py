"""Files: reads models, and turns models, optimizers and schedules into configs and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

if TYPE_CHECKING:
    from collections.abc import Callable

# What TensorFlow raises where a file is damaged or the system fails.
FILE_ERRORS = (tf.errors.OpError,)


def load_model(path: str, **options: Any) -> Any:
    """Read a model as Keras does."""
    return tf_keras.models.load_model(path, **options)


def save(model: Any, path: str, kind: str, **options: Any) -> None:
    """Write a model as Keras does, in the format that it calls ``kind``."""
    type(model).save(model, path, save_format=kind, **options)


def observed_variables(observe: Callable[[int], None]) -> Any:
    """Inside, ``observe(bytes)`` is called before each variable is made."""

    def create(next_creator: Any, **arguments: Any) -> Any:
        shape, dtype = tf.TensorShape(arguments.get("shape")), arguments.get("dtype")
        if shape.is_fully_defined():
            observe(shape.num_elements() * (tf.as_dtype(dtype).size if dtype is not None else 4))
        return next_creator(**arguments)

    return tf.variable_creator_scope(create)


def optimizer_to_config(optimizer: Any) -> dict[str, Any]:
    """Describe an optimizer as JSON data."""
    config: dict[str, Any] = tf_keras.optimizers.serialize(optimizer)
    return config


def optimizer_from_config(config: dict[str, Any]) -> Any:
    """Make the optimizer that :func:`optimizer_to_config` described."""
    return tf_keras.optimizers.deserialize(config)


def schedule_from_config(config: dict[str, Any], custom_objects: Any = None) -> Any:
    """Make the learning rate schedule that a config describes."""
    return tf_keras.optimizers.schedules.deserialize(config, custom_objects=custom_objects)


def model_to_config(model: Any) -> dict[str, Any]:
    """Describe a model as JSON data, as the current format does."""
    config: dict[str, Any] = tf_keras.saving.serialize_keras_object(model)
    return config


def model_from_config(config: dict[str, Any]) -> Any:
    """Make the model that a config describes, of the current or the legacy form."""
    current = "module" in config
    deserialize = tf_keras.saving.deserialize_keras_object if current else tf_keras.layers.deserialize
    return deserialize(config)


def saves_its_variables_as_keras_does(layer: Any) -> bool:
    """Tell whether a layer writes its variables into a ``.keras`` file as Keras's base class does."""
    return type(layer).save_own_variables is tf_keras.layers.Layer.save_own_variables
