"""Classes and configs: how Keras names and finds them in files, and what it looks at when it saves."""

from __future__ import annotations

from typing import Any

import tf_keras
from tensorflow.python.util.tf_export import get_canonical_name_for_symbol
from tf_keras.src.saving.legacy.hdf5_format import load_attributes_from_hdf5_group
from tf_keras.src.saving.object_registration import _GLOBAL_CUSTOM_NAMES
from tf_keras.src.saving.saving_lib import _walk_trackable
from tf_keras.src.saving.serialization_lib import _retrieve_class_or_fn, serialize_with_public_class


def register_class(cls: type, public_name: str, registered_name: str) -> None:
    """Make a class serialize as ``public_name`` in the current format and ``registered_name`` in the legacy ones.

    ``public_name`` is dotted, ``module.attribute``; Keras imports the module when it loads the class, so the
    reader needs no import of its own.
    """
    cls._keras_api_names = (public_name,)  # type: ignore[attr-defined]
    cls._keras_api_names_v1 = ()  # type: ignore[attr-defined]
    _GLOBAL_CUSTOM_NAMES[cls] = registered_name


def has_public_name(cls: type) -> bool:
    """Tell whether a class is part of Keras's public interface (a user's class is not)."""
    return get_canonical_name_for_symbol(cls, api_name="keras") is not None


def class_to_config(cls: type) -> dict[str, Any]:
    """Describe a layer class as Keras describes it in a config: module, class name, registered name."""
    described = serialize_with_public_class(cls)
    return {key: described[key] for key in ("module", "class_name", "registered_name")}


def class_from_config(config: dict[str, Any]) -> Any:
    """Find the class that :func:`class_to_config` described; ``TypeError`` where it cannot be found."""
    return _retrieve_class_or_fn(
        config["class_name"],
        config["registered_name"],
        config["module"],
        obj_type="class",
        full_config=config,
    )


def layers_saved_in_keras_format(model: Any) -> set[int]:
    """Tell which layers Keras's ``.keras`` and ``.weights.h5`` formats reach, by ``id``.

    The same walk as ``saving_lib._save_state``: over all attributes, and into lists, tuples, dicts and sets of layers,
    but not into containers inside those.
    """
    reached: set[int] = set()
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) in reached:
            continue
        reached.add(id(layer))
        for _, value in _walk_trackable(layer):
            held = (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, list | tuple | set)
                else [value]
            )
            waiting += [each for each in held if isinstance(each, tf_keras.layers.Layer)]
    return reached


def weight_names(group: Any) -> list[str]:
    """List the weights that Keras has written into a group of an HDF5 file, in its order."""
    return list(load_attributes_from_hdf5_group(group, "weight_names"))


def optimizer_path_in_keras_format(model: Any) -> str:
    """Name the attribute under which Keras's ``.keras`` format keeps a model's optimizer: the first it finds."""
    held = (name for name, value in _walk_trackable(model) if value is not None and value is model.optimizer)
    return next(held, "optimizer")
