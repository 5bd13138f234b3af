"""Compares what a file holds with the model: Keras leaves things out without a warning."""

from __future__ import annotations

import contextlib
import zipfile
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py

from rewriter.core.errors import FileError

from ..adapters import keras, required
from ..model.walk import locate_layers
from .archive import weights_member
from .formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_Shape = tuple[int, ...]
_OPTIMIZER_IN_H5 = "optimizer_weights"


@dataclass(frozen=True)
class Holding:
    """The shapes of the arrays in a model file.

    Attributes:
        weights: Of everything but the optimizer.
        optimizer: Of the optimizer's variables, in the order in which they are saved.
        is_scaled: Whether the optimizer was in a ``LossScaleOptimizer``, as far as the file says.
    """

    weights: list[_Shape]
    optimizer: list[_Shape]
    is_scaled: bool = False


def holding(path: Path, kind: Format, model: Any) -> Holding:
    """Read which arrays a ``.keras`` or ``.h5`` file of a model holds; their values are not read."""
    # Shapes are in the headers, so a file of gigabytes takes no longer than a small one.
    found: list[tuple[str, _Shape]] = []
    with _weights_file(path, kind) as file:
        file.visititems(lambda name, item: found.append((name, item.shape)) if hasattr(item, "shape") else None)
        if kind is Format.KERAS:
            optimizer = keras.optimizer_path_in_keras_format(model)
            is_scaled = any(name.startswith(f"{optimizer}/inner_optimizer/") for name, _ in found)
            prefix = f"{optimizer}/vars/"
            state = sorted((int(name.removeprefix(prefix)), shape) for name, shape in found if name.startswith(prefix))
        else:
            is_scaled = False
            prefix = f"{_OPTIMIZER_IN_H5}/"
            weight_names = required(keras.legacy, "an .h5 file").weight_names
            names = weight_names(file[_OPTIMIZER_IN_H5]) if _OPTIMIZER_IN_H5 in file else []
            state = [(index, file[prefix + name].shape) for index, name in enumerate(names)]
    weights = [shape for name, shape in found if not name.startswith(prefix)]
    return Holding(weights, [shape for _, shape in state], is_scaled)


def optimizer_values(path: Path, kind: Format, model: Any) -> list[Any]:
    """Read the values of an optimizer's variables from a ``.keras`` or ``.h5`` file, in their order."""
    with _weights_file(path, kind) as file:
        if kind is Format.H5:
            group = file[_OPTIMIZER_IN_H5]
            names = required(keras.legacy, "an .h5 file").weight_names(group)
        else:
            group = file[f"{keras.optimizer_path_in_keras_format(model)}/vars"]
            names = sorted(group, key=int)
        return [group[name][()] for name in names]


@contextlib.contextmanager
def _weights_file(path: Path, kind: Format) -> Iterator[Any]:
    if kind is Format.H5:
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, weights_member(archive) as member, h5py.File(member, "r") as file:
        yield file


def optimizer_shapes(optimizer: Any) -> list[_Shape]:
    """List the shapes of an optimizer's variables, in the order in which Keras saves them."""
    return [tuple(variable.shape) for variable in keras.saved_variables(optimizer)]


def require_readable(model: Any, destination: Path) -> None:
    """Raise ``FileError`` for what is known to be lost in the ``.keras`` format, before anything is written."""
    located = locate_layers(model)
    saved = keras.layers_saved_in_keras_format(model)
    left_out = [found.paths[0] for found in located if keras.own_weights(found.layer) and id(found.layer) not in saved]
    if left_out:
        raise FileError(
            f"{destination}: not written, Keras's .keras format would silently leave out the weights of "
            f"{', '.join(left_out)}: it does not look into containers inside containers. Use .h5 or a SavedModel."
        )
    for found in located:
        models = {id(owner) for owner in found.owners if keras.is_graph_network(owner)}
        if len(models) > 1 and keras.own_weights(found.layer):
            raise FileError(
                f"{destination}: not written, Keras could not read it again: {' and '.join(found.paths)} are one layer "
                "in several models, whose weights the .keras format mixes up. Use .h5 or a SavedModel."
            )
    if _saves_optimizer(model) and keras.legacy is not None and keras.legacy.is_legacy(keras.optimizer_of(model)):
        count = len(keras.saved_variables(keras.optimizer_of(model)))
        if count:
            name = type(keras.inner_optimizer(keras.optimizer_of(model))).__name__
            raise FileError(
                f"{destination}: not written, Keras's .keras format would silently leave out the state of the legacy "
                f"{name}, {count} variables. Use .h5, or compile the model with {keras.NAME}.optimizers.{name}."
            )


def require_all_written(model: Any, written: Path, kind: Format, destination: Path, with_optimizer: bool) -> None:
    """Raise ``FileError`` unless a file holds as many arrays of each shape as the model and its optimizer have."""
    # By shape, as names differ by format. What is missing is missing in some shape.
    weights = Counter(tuple(weight.shape) for weight in _counted_weights(model))
    state = Counter(optimizer_shapes(keras.optimizer_of(model)) if with_optimizer and _saves_optimizer(model) else ())
    if kind is Format.SAVED_MODEL:
        # A checkpoint has one graph of objects. Each variable has one name in it, so weights and state cannot be told
        # apart, and are counted together.
        held = required(keras.checkpoints, "a SavedModel").shapes_in(str(written / "variables" / "variables"))
        checks = [("variables", weights + state, Counter(held.values()))]
    else:
        arrays = holding(written, kind, model)
        checks = [
            ("weights", weights, Counter(arrays.weights)),
            ("optimizer's variables", state, Counter(arrays.optimizer)),
        ]
    for what, needed, there in checks:
        missing = needed - there
        if missing:
            shapes = ", ".join(f"{count} of shape {shape}" for shape, count in missing.items())
            other = ".h5" if kind is Format.KERAS else ".keras"
            if keras.checkpoints is not None and kind is not Format.SAVED_MODEL:
                other += " or a SavedModel"
            raise FileError(
                f"{destination}: not written, Keras has left out {missing.total()} of the {needed.total()} {what} "
                f"({shapes}). Use {other}."
            )


def _counted_weights(model: Any) -> list[Any]:
    """List the weights that a file must hold: all but those of layers that have a way of their own to save them."""
    layers = [model, *(found.layer for found in locate_layers(model))]
    weights = {
        id(weight): weight
        for layer in layers
        if keras.saves_its_variables_as_keras_does(layer)
        for weight in keras.own_weights(layer)
        if keras.has_known_shape(weight)
    }
    return list(weights.values())


def _saves_optimizer(model: Any) -> bool:
    return keras.is_compiled(model) and keras.is_optimizer(keras.optimizer_of(model))
