"""Optional: legacy optimizers and the ``.h5`` format."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras.src.saving.legacy.hdf5_format import load_attributes_from_hdf5_group

OPTIMIZERS = (tf_keras.optimizers.Optimizer, tf_keras.optimizers.legacy.Optimizer)


def is_legacy(optimizer: Any) -> bool:
    """Tell whether an optimizer is one of ``tf_keras.optimizers.legacy``."""
    return isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer)


def moves_touched_rows_alone(optimizer: Any, layer: Any) -> bool:
    """Tell whether a layer reads sparse tensors, and an optimizer leaves the rows alone that these do not touch.

    Of a functional model. The gradient of a kernel is sparse then; a dense one moves all rows.
    """
    legacy = tf_keras.optimizers.legacy
    if not is_legacy(optimizer) or isinstance(optimizer, legacy.Adam | legacy.Adagrad):
        return False
    if isinstance(optimizer, legacy.SGD | legacy.RMSprop) and not optimizer._momentum:
        return False
    read = [each for node in layer._inbound_nodes for each in tf.nest.flatten(node.input_tensors)]
    return any(isinstance(getattr(each, "type_spec", None), tf.SparseTensorSpec) for each in read)


def registered_optimizers() -> dict[str, Any]:
    """Return the registered optimizer classes by their bare names.

    An ``.h5`` file has only the bare name of an optimizer inside a ``LossScaleOptimizer``.
    """
    registered = tf_keras.saving.get_custom_objects().values()
    return {cls.__name__: cls for cls in registered if isinstance(cls, type) and issubclass(cls, OPTIMIZERS)}


def has_bare_name(cls: type) -> bool:
    """Tell whether a class is not registered, so that the legacy formats know only its bare name."""
    return bool(tf_keras.saving.get_registered_name(cls) == cls.__name__)


def weight_names(group: Any) -> list[str]:
    """List the weights that Keras has written into a group of an HDF5 file, in its order."""
    return list(load_attributes_from_hdf5_group(group, "weight_names"))
