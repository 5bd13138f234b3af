"""Merged layers that a config does not name, because a custom layer or model makes them in its own constructor.

Keras would load such a file into plain layers, and fail at the first weight. So the config of the whole model is put
inside one of ours, which says which layers to merge as soon as Keras has made the model, before it loads the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.errors import FileError
from rewriter.core.layout import is_merged

from ..adapters import keras
from ..model import surgery
from ..model.augmented_layers import CONFIGURED, Augmented, augmented_class, signed_configs, standard_class
from ..model.pairs import Pair, layouts_for
from ..model.recurrent_loops import slice_outside_loops
from ..model.walk import locate_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

# Files of users name this module and the class in it: these are names, not places, and stay when the module moves.
MODULE_IN_FILES = f"{keras.LIBRARY}.hidden"
REGISTERED_NAME = "rewriter>Rewritten"
# The class name in files. Where the library is missing, Keras's error quotes it, so it says what to install.
_LOADER = "RewrittenByKerasRewriter"


def layers_missing_in_config(model: Any) -> list[str]:
    """List the paths of merged layers that the model's config does not name."""
    merged = [found for found in locate_layers(model) if is_merged(found.layer)]
    with signed_configs():
        try:
            config = keras.model_to_config(model)
        except (NotImplementedError, TypeError, ValueError):
            config = None  # none at all: the format decides what becomes of the model
    # Not all that is asked for its config is in that of the model: an LSTM asks its cell, and leaves the answer out.
    named = set(_signatures(config))
    return [found.paths[0] for found in merged if id(found.layer) not in named]


def _signatures(config: Any) -> Iterator[Any]:
    if isinstance(config, dict):
        if CONFIGURED in config:
            yield config[CONFIGURED]
        for value in config.values():
            yield from _signatures(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _signatures(value)


def wrap_config(config: dict[str, Any], places: dict[str, Any]) -> dict[str, Any]:
    """Put a model's config inside one that merges the layers at some places when it is loaded.

    Args:
        config: The config as Keras wrote it, of the current or the legacy form.
        places: What is merged at which places, as :func:`rewriter.files.manifest.places` says it.
    """
    # Keras looks for what to compile at the top, and clears it there for compile=False.
    inner = {key: value for key, value in config.items() if key != "compile_config"}
    wrapped = {"class_name": REGISTERED_NAME, "config": {"model": inner, "places": places}}
    if "module" not in config:
        return wrapped
    compile_config = {key: value for key, value in config.items() if key == "compile_config"}
    return {**wrapped, **keras.loader_to_config(MODULE_IN_FILES, _LOADER, REGISTERED_NAME), **compile_config}


class Rewritten:
    """The class that a file names instead of the model's own. It makes the model and merges its layers."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make the model and merge its layers."""
        inner = config["model"]
        model = keras.model_from_config(inner)
        merge_at(model, config["places"])
        return model


def merge_at(model: Any, places: dict[str, Any]) -> None:
    """Merge the layers at some places of a model just made; one that is not built yet is merged when it is.

    Args:
        model: The model.
        places: What is merged at which places, as :func:`rewriter.files.manifest.places` says it.

    Raises:
        FileError: The model has no layer at a place that can be merged.
    """
    # By place and not by path: Keras may rename layers when it makes the model again.
    located = {place: found.layer for found in locate_layers(model) for place in found.places}
    for place, merged in places.items():
        layer = located.get(place)
        if isinstance(layer, Augmented):
            continue
        pairs = tuple(map(Pair.from_config, merged["pairs"]))
        if layer is None or type(layer).__name__ != merged["layer"] or not _can_have(layer, pairs):
            raise FileError(
                f"the file says that the {merged['layer']} layer at {place!r} is merged, and the model made from it "
                "has none there: has a custom class changed since it was saved?"
            )
        cls = augmented_class(standard_class(layer), merged["exact"], pairs)
        if layer.built:
            surgery.merge(layer, cls, layouts_for(layer, pairs))
        else:
            keras.set_class(layer, cls)
    slice_outside_loops(model)


def _can_have(layer: Any, pairs: tuple[Pair, ...]) -> bool:
    attributes = [attribute for pair in pairs for attribute in pair.attributes]
    return not layer.built or all(keras.is_variable(getattr(layer, each, None)) for each in attributes)


globals()[_LOADER] = Rewritten
keras.register(Rewritten, REGISTERED_NAME)
