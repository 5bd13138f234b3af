"""What things are: the classes of tf-keras, by the names that every Keras gives them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from ..records import NewVariableError

# The library for this Keras, and the package of Keras itself.
LIBRARY = "rewriter"
NAME = "tf_keras"
VERSION: str = tf_keras.__version__

Layer: Any = tf_keras.layers.Layer
Model: Any = tf_keras.Model
Optimizer: Any = tf_keras.optimizers.Optimizer
Schedule: Any = tf_keras.optimizers.schedules.LearningRateSchedule
Metric: Any = tf_keras.metrics.Metric
Sequential: Any = tf_keras.Sequential
# What every optimizer of this Keras can be told beside what those of every Keras can.
OPTIMIZER_SETTINGS = ("jit_compile",)


class Callback(tf_keras.callbacks.Callback):
    """Base of the callbacks of this library. They read no logs, so Keras need not wait for these."""

    def __init__(self) -> None:
        super().__init__()
        self._supports_tf_logs = True


def is_module(value: Any) -> bool:
    """Tell whether a value may hold layers and variables: it is a layer, a model, a metric, or a plain module."""
    return isinstance(value, tf.Module)


def is_variable(value: Any) -> bool:
    """Tell whether a value is a variable."""
    return isinstance(value, tf.Variable)


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a tensor, symbolic or not; a variable is none."""
    return isinstance(value, tf.Tensor)


def is_sparse(gradient: Any) -> bool:
    """Tell whether a gradient is one of some rows, ``gradient.values`` at ``gradient.indices``."""
    return isinstance(gradient, tf.IndexedSlices)


def is_dataset(value: Any) -> bool:
    """Tell whether a value is a ``tf.data.Dataset``."""
    return isinstance(value, tf.data.Dataset)


def layer_classes(*names: str) -> tuple[Any, ...]:
    """Return the layer classes of some names, ``"Dense"``; those that this Keras does not have are left out."""
    found = (getattr(tf_keras.layers, name, None) for name in names)
    return tuple(each for each in found if each is not None)


def optimizer_classes(*names: str) -> tuple[Any, ...]:
    """Return the optimizer classes of some names, current and legacy; those that there are not are left out."""
    modules = (tf_keras.optimizers, tf_keras.optimizers.legacy)
    found = (getattr(module, name, None) for module in modules for name in names)
    return tuple(each for each in found if each is not None)


def new_spec(shape: Any, dtype: Any) -> Any:
    """Describe the shape and dtype of a tensor, ``None`` for sizes that are open."""
    return tf.TensorSpec(shape, dtype)


def values_of(tensor: Any) -> Any:
    """Return the values of a ragged or sparse tensor; anything else as it is."""
    if isinstance(tensor, tf.RaggedTensor):
        return tensor.flat_values
    return tensor.values if isinstance(tensor, tf.SparseTensor) else tensor


def new_variable(shape: Any, dtype: Any, name: str) -> Any:
    """Make a variable of zeros, of a name with its scope."""
    return tf.Variable(tf.zeros(shape, dtype), name=name)


def no_new_variables() -> Any:
    """Inside, :class:`~rewriter.adapters.records.NewVariableError` is raised where a variable would be made."""
    return tf.variable_creator_scope(_refuse)


def _refuse(*_: Any, **__: Any) -> Any:
    raise NewVariableError


def without_memory() -> Any:
    """Inside, variables have shapes and take no memory: what is made is part of a graph that is never run."""
    return tf.Graph().as_default()


def dtype_of(given: Any) -> Any:
    """Return a dtype, given as its name or as one, with ``name`` and ``as_numpy_dtype``."""
    return tf.as_dtype(given)


def register(cls: Any, *names: str, package: str = "") -> None:
    """Register a class under some names and, if a package is given, under ``"package>name"``."""
    tf_keras.saving.get_custom_objects().update(dict.fromkeys(names, cls))
    if package:
        tf_keras.saving.register_keras_serializable(package, cls.__name__)(cls)
