"""The one walk over a model: every layer in it, once, with the paths by which it is reached.

A path joins, with ``/``, layer names inside Sequential and Functional models, and attribute names, list indices and
dict keys elsewhere. Sharing is identity of objects and nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rewriter.core.errors import ModelError
from rewriter.core.keras_packages import CALLED, LIBRARY, keras_of

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class LocatedLayer:
    """A layer inside a model.

    Attributes:
        layer: The layer itself.
        paths: The paths by which it is reached, the first one found first.
        places: Like ``paths``, but with indices instead of layer names, because Keras may rename layers on reload.
        owners: The layers and models that hold it, itself or in a container, as one for each path.
    """

    layer: Any
    paths: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    owners: list[Any] = field(default_factory=list)


def locate_layers(model: Any) -> list[LocatedLayer]:
    """List every layer inside a model, in Keras's order, each once however often it is shared.

    Args:
        model: A Keras model, or a layer with layers inside it.

    Raises:
        ModelError: It is neither.
    """
    require_layers(model)
    located: dict[int, LocatedLayer] = {}
    _visit(model, ("", ""), model, located, frozenset())
    return list(located.values())


def unknown_classes(model: Any) -> list[str]:
    """Name the classes of a model read from a SavedModel, and of its layers, in whose place Keras runs a graph."""
    layers = [model, *(found.layer for found in locate_layers(model))]
    return list(dict.fromkeys(type(layer).__name__ for layer in layers if keras.is_opaque(layer)))


def require_layers(model: Any) -> None:
    """Raise ``ModelError`` unless the object is a Keras model, or a built layer that may have layers inside it."""
    if not isinstance(model, keras.Layer) or isinstance(model, keras.Model):
        require_model(model)
    elif not model.built:
        raise ModelError(f"{model.name} is not built: call the layer on a batch, so that what is in it has weights.")


def require_model(model: Any) -> None:
    """Raise ``ModelError`` unless the object is a model of this Keras; one of the other Keras is refused by name."""
    if isinstance(model, keras.Model):
        return
    if isinstance(model, keras.Layer):
        raise ModelError(
            f"expected a {keras.NAME} model, got the layer {model.name}, which cannot be saved or exported by itself: "
            f"put it in a model, as in {keras.NAME}.Sequential([layer])."
        )
    cls = type(model)
    given = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    other = keras_of(model)
    if other not in {None, keras.NAME}:
        raise ModelError(
            f"expected a {keras.NAME} model, got {given}, which belongs to {CALLED[other]}: {LIBRARY[other]} takes it."
        )
    is_path = isinstance(model, str | os.PathLike)
    remedy = " Load a file with rewriter.load_model(path) first." if is_path else ""
    raise ModelError(f"expected a {keras.NAME} model, got {given}.{remedy}")


def _visit(
    holder: Any, way: tuple[str, str], owner: Any, located: dict[int, LocatedLayer], above: frozenset[int]
) -> None:
    # `above` holds the way down to here: a layer that reaches itself is not entered again. A layer that is shared
    # is, so that all paths to the layers inside it are known.
    if id(holder) in above:
        return
    path, place = way
    for name, number, child in _children(holder):
        child_way = f"{path}/{name}" if path else name, f"{place}/{number}" if place else number
        is_layer = isinstance(child, keras.Layer)
        if is_layer:
            found = located.setdefault(id(child), LocatedLayer(child))
            found.paths.append(child_way[0])
            found.places.append(child_way[1])
            found.owners.append(owner)
        _visit(child, child_way, child if is_layer else owner, located, above | {id(holder)})


def _children(holder: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield what a layer, module or container holds, each with its part of the path and of the place."""
    if isinstance(holder, dict):
        yield from ((str(key), str(key), value) for key, value in holder.items() if _is_node(value))
    elif isinstance(holder, list | tuple):
        yield from ((str(index), str(index), value) for index, value in enumerate(holder) if _is_node(value))
    else:
        # Keras looks no further than at the attributes of a plain module, so neither does its tracking.
        if not isinstance(holder, keras.Layer):
            attributes = vars(holder).items()
            yield from ((k, k, v) for k, v in attributes if _is_node(v) and not keras.is_bookkeeping(k))
            return
        by_layer_name = keras.is_graph_network(holder)
        for index, child in enumerate(keras.tracked_children(holder)):
            if not _is_node(child):
                continue
            named = by_layer_name and isinstance(child, keras.Layer)
            attribute = None if named else keras.attribute_of(holder, child)
            # A layer without an attribute, behind a property for example, goes by its layer name.
            yield attribute or str(getattr(child, "name", type(child).__name__)), attribute or f"#{index}", child


def _is_node(value: Any) -> bool:
    # Metrics are layers to Python, but no part of what the model computes.
    return isinstance(value, dict | list | tuple) or (keras.is_module(value) and not isinstance(value, keras.Metric))
