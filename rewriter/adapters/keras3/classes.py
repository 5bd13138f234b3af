"""What things are: the classes of Keras 3, by the names that every Keras gives them."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

# The library for this Keras, and the package of Keras itself.
LIBRARY = "rewriter.keras3"
NAME = "keras"
VERSION: str = keras.__version__

Layer: Any = keras.Layer
Model: Any = keras.Model
Optimizer: Any = keras.optimizers.Optimizer
Schedule: Any = keras.optimizers.schedules.LearningRateSchedule
Metric: Any = keras.Metric
Sequential: Any = keras.Sequential
# What every optimizer of this Keras can be told beside what those of every Keras can.
OPTIMIZER_SETTINGS = ("loss_scale_factor", "gradient_accumulation_steps")

# Where Keras has optimizers for torch.
TORCH = "keras.src.backend.torch.optimizers"


class Callback(keras.callbacks.Callback):
    """Base of the callbacks of this library."""


class Dtype(str):
    """A dtype: its name, which is what Keras 3 has for it, with what is asked of one."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its name, ``"float32"``."""
        return str(self)

    @property
    def is_floating(self) -> bool:
        """Whether its numbers are floats."""
        return "float" in self

    @property
    def is_bool(self) -> bool:
        """Whether it is that of truth values."""
        return self == "bool"

    @property
    def as_numpy_dtype(self) -> Any:
        """The dtype in NumPy, where ``ml_dtypes`` has those that NumPy itself has not."""
        import ml_dtypes  # noqa: PLC0415  only for these

        return np.dtype(getattr(ml_dtypes, self, self)).type


@dataclass(frozen=True)
class Spec:
    """The shape and dtype of a tensor, ``None`` for sizes that are open."""

    shape: tuple[int | None, ...]
    dtype: Dtype


def _tensor_classes() -> tuple[Any, ...]:
    """Return the classes of the backend's tensors; an import of the backend is one that Keras has made."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        return (tf.Tensor, tf.IndexedSlices, tf.SparseTensor, tf.RaggedTensor)
    if backend == "jax":
        import jax  # noqa: PLC0415

        return (jax.Array,)
    if backend == "torch":
        import torch  # noqa: PLC0415

        return (torch.Tensor,)
    return (np.ndarray,)


TENSORS: tuple[Any, ...] = (keras.KerasTensor, *_tensor_classes())


def is_module(value: Any) -> bool:
    """Tell whether a value may hold layers and variables: it is a layer, a model or a metric."""
    return isinstance(value, keras.Layer | keras.Metric)


def is_variable(value: Any) -> bool:
    """Tell whether a value is a variable."""
    return isinstance(value, keras.Variable)


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a tensor, symbolic or not; a variable is none."""
    return isinstance(value, TENSORS)


def is_sparse(gradient: Any) -> bool:
    """Tell whether a gradient is one of some rows, ``gradient.values`` at ``gradient.indices``."""
    return type(gradient).__name__ == "IndexedSlices"


def is_dataset(value: Any) -> bool:
    """Tell whether a value is a ``tf.data.Dataset``."""
    return any(cls.__name__ == "DatasetV2" for cls in type(value).__mro__)


def layer_classes(*names: str) -> tuple[Any, ...]:
    """Return the layer classes of some names, ``"Dense"``; those that this Keras does not have are left out."""
    found = (getattr(keras.layers, name, None) for name in names)
    return tuple(each for each in found if each is not None)


def optimizer_classes(*names: str) -> tuple[Any, ...]:
    """Return the optimizer classes of some names; those that there are not are left out.

    Behind each is the one of torch that Keras makes in its place, where there is one.
    """
    public = [cls for name in names if (cls := getattr(keras.optimizers, name, None)) is not None]
    return tuple(each for cls in public for each in (cls, *_made_in_torch(cls)))


def _made_in_torch(cls: type) -> list[type]:
    if keras.config.backend() != "torch":
        return []
    try:
        module = importlib.import_module(f"{TORCH}.torch_{cls.__name__.lower()}")
    except ModuleNotFoundError:
        return []
    return [getattr(module, cls.__name__)]


def public_class(cls: type) -> type:
    """Return the class of Keras in whose place it makes one of torch; any other class as it is."""
    return cls.__mro__[2] if cls.__module__.startswith(TORCH) else cls


def new_spec(shape: Any, dtype: Any) -> Any:
    """Describe the shape and dtype of a tensor, ``None`` for sizes that are open."""
    return Spec(tuple(shape), dtype_of(dtype))


def values_of(tensor: Any) -> Any:
    """Return the values of a ragged or sparse tensor; anything else as it is."""
    return tensor


def new_variable(shape: Any, dtype: Any, name: str) -> Any:
    """Make a variable of zeros, of a name with its scope."""
    variable = keras.Variable("zeros", shape=tuple(shape), dtype=dtype, name=name.rpartition("/")[2])
    variable._path = name
    return variable


def no_new_variables() -> Any:
    """Do nothing: Keras 3 itself refuses a variable where a function is traced."""
    return contextlib.nullcontext()


def without_memory() -> Any:
    """Do nothing: variables of Keras 3 always take memory."""
    return contextlib.nullcontext()


def decomposes_slowly() -> bool:
    """Tell whether XLA of TensorFlow compiles what is traced now for a CPU, where it has no LAPACK, as JAX has."""
    if keras.config.backend() != "tensorflow":
        return False
    from .. import xla  # noqa: PLC0415  of this backend alone

    return xla.decomposes_slowly()


def dtype_of(given: Any) -> Any:
    """Return a dtype, given as its name or as one, with ``name`` and ``as_numpy_dtype``."""
    return Dtype(keras.backend.standardize_dtype(given))


def register(cls: Any, *names: str, package: str = "") -> None:
    """Register a class under some names and, if a package is given, under ``"package>name"``."""
    keras.saving.get_custom_objects().update(dict.fromkeys(names, cls))
    if package:
        keras.saving.register_keras_serializable(package, cls.__name__)(cls)
