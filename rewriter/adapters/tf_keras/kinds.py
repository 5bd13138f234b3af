"""What things are: the classes of tf-keras, by the names that every Keras gives them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

NAME = "tf_keras"
VERSION: str = tf_keras.__version__

Layer: Any = tf_keras.layers.Layer
Model: Any = tf_keras.Model
Optimizer: Any = tf_keras.optimizers.Optimizer
Schedule: Any = tf_keras.optimizers.schedules.LearningRateSchedule
Callback: Any = tf_keras.callbacks.Callback
Sequential: Any = tf_keras.Sequential


def is_layer(value: Any) -> bool:
    """Tell whether a value is a layer, or a model, that computes something; a metric is a layer to Python only."""
    return isinstance(value, Layer) and not is_metric(value)


def is_model(value: Any) -> bool:
    """Tell whether a value is a model."""
    return isinstance(value, Model)


def is_module(value: Any) -> bool:
    """Tell whether a value may hold layers and variables: it is a layer, a model, a metric, or a plain module."""
    return isinstance(value, tf.Module)


def is_metric(value: Any) -> bool:
    """Tell whether a value is a metric, which to Python is a layer, but no part of what a model computes."""
    return isinstance(value, tf_keras.metrics.Metric)


def is_variable(value: Any) -> bool:
    """Tell whether a value is a variable."""
    return isinstance(value, tf.Variable)


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a tensor, symbolic or not; a variable is none."""
    return isinstance(value, tf.Tensor)


def is_sparse(gradient: Any) -> bool:
    """Tell whether a gradient is one of some rows, ``gradient.values`` at ``gradient.indices``."""
    return isinstance(gradient, tf.IndexedSlices)


def is_schedule(value: Any) -> bool:
    """Tell whether a value is a learning rate schedule."""
    return isinstance(value, Schedule)


def is_traced_function(value: Any) -> bool:
    """Tell whether a value is a ``tf.function``."""
    return isinstance(value, tf.types.experimental.PolymorphicFunction)


def is_dataset(value: Any) -> bool:
    """Tell whether a value is a ``tf.data.Dataset``."""
    return isinstance(value, tf.data.Dataset)


def is_spec(value: Any) -> bool:
    """Tell whether a value says the shape and dtype of a tensor, and holds none."""
    return isinstance(value, tf.TensorSpec)


def layer_classes(*names: str) -> tuple[Any, ...]:
    """Return the layer classes of some names, ``"Dense"``; those that this Keras does not have are left out."""
    found = (getattr(tf_keras.layers, name, None) for name in names)
    return tuple(each for each in found if each is not None)


def optimizer_classes(*names: str) -> tuple[Any, ...]:
    """Return the optimizer classes of some names, current and legacy; those that there are not are left out."""
    modules = (tf_keras.optimizers, tf_keras.optimizers.legacy)
    found = (getattr(module, name, None) for module in modules for name in names)
    return tuple(each for each in found if each is not None)


def register(package: str, name: str, cls: Any) -> None:
    """Register a class under ``"package>name"``, so that every format of this Keras finds it."""
    tf_keras.saving.register_keras_serializable(package, name)(cls)


def register_names(names: dict[str, Any]) -> None:
    """Register classes under names as they are."""
    tf_keras.saving.get_custom_objects().update(names)


def new_sgd(learning_rate: Any, **settings: Any) -> Any:
    """Make a plain SGD."""
    return tf_keras.optimizers.SGD(learning_rate, **settings)


def new_spec(shape: Any, dtype: Any) -> Any:
    """Say the shape and dtype of a tensor, ``None`` for sizes that are open."""
    return tf.TensorSpec(shape, dtype)


def specs_like(nest: Any) -> Any:
    """Say the shape and dtype of each array or tensor in a structure; ``AttributeError`` for what is none."""
    return tf.nest.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype), nest)


def values_of(tensor: Any) -> Any:
    """Return the values of a ragged or sparse tensor; anything else as it is."""
    if isinstance(tensor, tf.RaggedTensor):
        return tensor.flat_values
    return tensor.values if isinstance(tensor, tf.SparseTensor) else tensor


def scaled(gradient: Any, rate: Any) -> Any:
    """Return a sparse gradient times a number."""
    return tf.IndexedSlices(rate * gradient.values, gradient.indices)


def new_variable(value: Any) -> Any:
    """Make a variable of a value."""
    return tf.Variable(value)


def with_shape(tensor: Any, shape: Any) -> Any:
    """State the shape of a tensor, by an operation behind which TensorFlow does not look."""
    return tf.ensure_shape(tensor, shape)


def name_scope(name: str) -> Any:
    """Inside, what is made has a name that begins with this one."""
    return tf.name_scope(name)


def dtype_of(given: Any) -> Any:
    """Return a dtype, given as its name or as one, with ``name`` and ``as_numpy_dtype``."""
    return tf.as_dtype(given)
