"""Classes and configs: how Keras names and finds them in files, and what it looks at when it saves."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from tensorflow.python.util.tf_export import get_canonical_name_for_symbol
from tf_keras.src.saving.object_registration import _GLOBAL_CUSTOM_NAMES
from tf_keras.src.saving.saving_lib import _walk_trackable
from tf_keras.src.saving.serialization_lib import SafeModeScope, _retrieve_class_or_fn, serialize_with_public_class

from ..tensorflow_functions import take_traces

if TYPE_CHECKING:
    from collections.abc import Mapping


def register_class(cls: type, public_name: str, registered_name: str) -> None:
    """Make a class serialize as ``public_name`` in the current format and ``registered_name`` in the legacy ones.

    ``public_name`` is dotted, ``module.attribute``; Keras imports the module when it loads the class, so the
    reader needs no import of its own. The registration lasts as long as a layer has the class.
    """
    for other in [each for each, holders in _HOLDERS.items() if not holders and each is not cls]:
        del _HOLDERS[other], _GLOBAL_CUSTOM_NAMES[other]
    cls._keras_api_names = (public_name,)  # type: ignore[attr-defined]
    cls._keras_api_names_v1 = ()  # type: ignore[attr-defined]
    _GLOBAL_CUSTOM_NAMES[cls] = registered_name
    _HOLDERS.setdefault(cls, weakref.WeakSet())


# What has each class that is registered here. Keras's own registry keeps a class for ever, and with it the class of a
# user that it is derived from: the next one to be registered takes those out that nothing has any more.
_HOLDERS: dict[type, weakref.WeakSet[Any]] = {}


def set_class(holder: Any, cls: type) -> None:
    """Give a layer or an optimizer another class, past Keras's attribute tracking.

    Saving as a SavedModel leaves a bound ``call`` of the former class among the layer's attributes. It would hide the
    ``call`` of the new class, so it is removed. A class that says so, in ``_rewriter_names_in_files``, is registered.
    """
    leftover = vars(holder).get("call")
    if leftover is not None and getattr(leftover, "__func__", None) is type(holder).call:
        del vars(holder)["call"]
    # A step of an optimizer that is compiled by itself, as on a GPU, is that of the former class.
    step = getattr(holder, "_update_step_xla", None)
    if step is not None:
        take_traces(step)
    object.__setattr__(holder, "__class__", cls)
    names = getattr(cls, "_rewriter_names_in_files", None)
    if names is not None:
        register_class(cls, *names)
    if cls in _HOLDERS:
        _HOLDERS[cls].add(holder)


def has_public_name(cls: type) -> bool:
    """Tell whether a class is part of Keras's public interface (a user's class is not)."""
    return get_canonical_name_for_symbol(cls, api_name="keras") is not None


def class_to_config(cls: type) -> dict[str, Any]:
    """Describe a layer class as Keras describes it in a config: module, class name, registered name."""
    described = serialize_with_public_class(cls)
    return {key: described[key] for key in ("module", "class_name", "registered_name")}


def portable_config(config: Any) -> Any:
    """Return the config of a model, which says the same everywhere."""
    return config


def loader_to_config(module: str, name: str, registered: str) -> dict[str, Any]:
    """Describe a class of this library in a config, by its module, which Keras imports when it reads the file."""
    del registered
    return {"module": module, "class_name": name, "registered_name": None}


def class_from_config(config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Find the class that :func:`class_to_config` described; ``TypeError`` where it cannot be found."""
    return _retrieve_class_or_fn(
        config["class_name"],
        config["registered_name"],
        config["module"],
        obj_type="class",
        full_config=config,
        custom_objects=custom_objects,
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


def optimizer_path_in_keras_format(model: Any) -> str:
    """Name the attribute under which Keras's ``.keras`` format keeps a model's optimizer: the first it finds."""
    held = (name for name, value in _walk_trackable(model) if value is not None and value is model.optimizer)
    return next(held, "optimizer")


def registered_object(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Return the object that is registered, in scope or given under a name, ``None`` if there is none."""
    if not isinstance(name, str):
        return None
    return tf_keras.saving.get_registered_object(name, custom_objects=custom_objects)


def is_kind_of_object(value: Any) -> bool:
    """Tell whether a value is a class of objects that models are made of, so that making one is harmless."""
    kinds = (
        tf_keras.layers.Layer,
        tf_keras.losses.Loss,
        tf_keras.optimizers.Optimizer,
        tf_keras.optimizers.legacy.Optimizer,
        tf_keras.optimizers.schedules.LearningRateSchedule,
        tf_keras.initializers.Initializer,
        tf_keras.regularizers.Regularizer,
        tf_keras.constraints.Constraint,
        tf_keras.mixed_precision.Policy,
        # TensorFlow's own initializers, current and of its first version.
        tf.zeros_initializer.__base__,
        tf.compat.v1.zeros_initializer.__base__,
    )
    return isinstance(value, type) and issubclass(value, kinds)


def safe_mode_scope(safe_mode: bool) -> Any:
    """Inside, a ``lambda`` in a file of any format is refused. Keras itself refuses it in ``.keras`` files only."""
    return SafeModeScope(safe_mode)
