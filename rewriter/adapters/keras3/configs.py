"""Classes and configs: how Keras names and finds them in files, and what it looks at when it saves."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

import keras
from keras.src.api_export import get_name_from_symbol
from keras.src.backend.common.name_scope import current_path
from keras.src.saving.object_registration import GLOBAL_CUSTOM_NAMES
from keras.src.saving.saving_lib import _walk_saveable
from keras.src.saving.serialization_lib import _retrieve_class_or_fn

from .classes import TORCH, public_class

if TYPE_CHECKING:
    from collections.abc import Mapping


def register_class(cls: type, public_name: str, registered_name: str) -> None:
    """Make a class serialize by its registered name; ``public_name`` is the one in files of tf-keras."""
    del public_name
    GLOBAL_CUSTOM_NAMES[cls] = registered_name


def set_class(holder: Any, cls: type) -> None:
    """Give a layer or an optimizer another class, past Keras's attribute tracking."""
    object.__setattr__(holder, "__class__", cls)
    if isinstance(holder, keras.Layer) and not holder.built:
        object.__setattr__(holder, "build", _building(holder))
    names = getattr(cls, "_rewriter_names_in_files", None)
    if names is not None:
        register_class(cls, *names)


def _building(layer: Any) -> Any:
    """Return what builds a layer as its class does, in its name scope: Keras wraps the method of each layer it makes.

    That wrapper calls the method of the former class.
    """
    build = type(layer).build.__get__(layer)

    @functools.wraps(build)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        with layer._open_name_scope():
            layer._path = current_path()
            build(*args, **kwargs)
        layer._build_shapes_dict = inspect.signature(build).bind(*args, **kwargs).arguments
        layer.built = True
        layer._post_build()
        layer._lock_state()

    return wrapped


def has_public_name(cls: type) -> bool:
    """Tell whether a class is part of Keras's public interface (a user's class is not)."""
    return get_name_from_symbol(cls) is not None


def class_to_config(cls: type) -> dict[str, Any]:
    """Describe a class as Keras describes it in a config: module, class name, registered name."""
    public = get_name_from_symbol(public_class(cls))
    if public is None:
        registered = keras.saving.get_registered_name(cls)
        return {"module": cls.__module__, "class_name": cls.__name__, "registered_name": registered}
    module, _, name = public.rpartition(".")
    return {"module": module, "class_name": name, "registered_name": None}


def portable_config(config: Any) -> Any:
    """Return the config of a model as every backend can read it: on torch Keras names the classes of torch."""
    if isinstance(config, dict):
        changed = {key: portable_config(value) for key, value in config.items()}
        in_torch = str(config.get("module")).startswith(TORCH)
        return {**changed, "module": "keras.optimizers"} if in_torch else changed
    return [portable_config(each) for each in config] if isinstance(config, list) else config


def loader_to_config(module: str, name: str, registered: str) -> dict[str, Any]:
    """Describe a class of this library in a config, by its registered name: Keras imports no module for a file."""
    return {"module": module, "class_name": name, "registered_name": registered}


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
    """Tell which layers Keras's ``.keras`` and ``.weights.h5`` formats reach, by ``id``."""
    reached: set[int] = set()
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) in reached:
            continue
        reached.add(id(layer))
        for _, value in _walk_saveable(layer):
            held = (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, list | tuple | set)
                else [value]
            )
            waiting += [each for each in held if isinstance(each, keras.Layer)]
    return reached


def optimizer_path_in_keras_format(model: Any) -> str:
    """Name the attribute under which Keras's ``.keras`` format keeps a model's optimizer."""
    del model
    return "optimizer"


def registered_object(name: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Return the object that is registered, in scope or given under a name, ``None`` if there is none."""
    if not isinstance(name, str):
        return None
    return keras.saving.get_registered_object(name, custom_objects=custom_objects)


def is_kind_of_object(value: Any) -> bool:
    """Tell whether a value is a class of objects that models are made of, so that making one is harmless."""
    kinds = (
        keras.Layer,
        keras.Loss,
        keras.optimizers.Optimizer,
        keras.optimizers.schedules.LearningRateSchedule,
        keras.Initializer,
        keras.Regularizer,
        keras.constraints.Constraint,
        keras.DTypePolicy,
    )
    return isinstance(value, type) and issubclass(value, kinds)


def safe_mode_scope(safe_mode: bool) -> Any:
    """Do nothing: Keras 3 asks for the safe mode itself when it reads a file."""
    del safe_mode
    return contextlib.nullcontext()
