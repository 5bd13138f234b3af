"""Optional: TensorFlow's checkpoints, also those in SavedModels. They may hand out values later than they are read."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

from .legacy import is_legacy


def awaited_names(layer: Any) -> list[str]:
    """List the variables in a restored checkpoint that wait for an attribute of the layer."""
    return list(getattr(layer, "_self_unconditional_deferred_dependencies", ()))


def awaited_values(optimizer: Any) -> list[str]:
    """List the values in a restored checkpoint that an optimizer gets once it is built.

    Keras restores the slots of such an optimizer then, by their position; a legacy one its iterations.
    """
    if optimizer is None or getattr(optimizer, "_built", False):
        return []
    holder = optimizer if is_legacy(optimizer) else optimizer._variables
    held = [getattr(holder, "_self_unconditional_deferred_dependencies", {})]
    positions = [position for names in held for several in names.values() for position in several]
    return [each.full_name for position in positions for each in position.object_proto.attributes]


def shapes_in(path: str) -> dict[str, tuple[int, ...]]:
    """List the shapes of the arrays in a checkpoint, by their keys."""
    return {key: tuple(shape) for key, shape in tf.train.list_variables(path)}


def read(path: str, model: Any) -> Any:
    """Restore a model from a checkpoint; returns TensorFlow's status."""
    status = tf.train.Checkpoint(root=model).read(path)
    # Metrics have values in it that nothing asks for; TensorFlow would say so once the model is gone.
    status.expect_partial()
    return status


def saved_metadata(content: bytes) -> list[str]:
    """Read the JSON texts in the ``keras_metadata.pb`` of a SavedModel; ``ValueError`` where it is damaged."""
    metadata = SavedMetadata()
    try:
        metadata.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return [node.metadata for node in metadata.nodes]


def remember_input_shape(model: Any) -> None:
    """Note how a model from a SavedModel is built. ``.keras`` files need it, and Keras forgets it."""
    spec = model._saved_model_inputs_spec
    if model._build_input_shape is None and spec is not None:
        model._build_input_shape = tf.nest.map_structure(lambda each: each.shape, spec)
