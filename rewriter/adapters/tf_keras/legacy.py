"""Optional: what Keras keeps of its former ways, legacy optimizers and the ``.h5`` format."""

from __future__ import annotations

from typing import Any

import tf_keras
from tf_keras.src.saving.legacy.hdf5_format import load_attributes_from_hdf5_group

OPTIMIZERS = (tf_keras.optimizers.Optimizer, tf_keras.optimizers.legacy.Optimizer)


def is_legacy(optimizer: Any) -> bool:
    """Tell whether an optimizer is one of ``tf_keras.optimizers.legacy``."""
    return isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer)


def registered_optimizers() -> dict[str, Any]:
    """Find the optimizer classes that are registered, by their bare names.

    An ``.h5`` file names the optimizer inside a ``LossScaleOptimizer`` by nothing else.
    """
    registered = tf_keras.saving.get_custom_objects().values()
    return {cls.__name__: cls for cls in registered if isinstance(cls, type) and issubclass(cls, OPTIMIZERS)}


def has_bare_name(cls: type) -> bool:
    """Tell whether the legacy formats know a class by nothing but its own name, as it is not registered."""
    return bool(tf_keras.saving.get_registered_name(cls) == cls.__name__)


def weight_names(group: Any) -> list[str]:
    """List the weights that Keras has written into a group of an HDF5 file, in its order."""
    return list(load_attributes_from_hdf5_group(group, "weight_names"))
