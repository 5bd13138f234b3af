"""Runs a model, or one layer, on example inputs, and leaves it unchanged."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rewriter.core import hints, progress
from rewriter.core.errors import ModelError, first_line

from ..adapters import keras
from ..model import example_inputs
from ..model.observation.inputs import observing_all
from ..model.preserved_state import preserved
from ..model.walk import locate_layers
from .comparison import arrays_of

_WIDE = 32  # for those after the batch, where a layer takes no fewer: a convolution with a large kernel


@dataclass(frozen=True)
class Run:
    """The results of a run of a model.

    Attributes:
        outputs: The arrays that the model as a whole gave; none where it was not run.
        layers: Those of all calls of each layer that owns weights, by ``id``, in the order of the first calls.
        losses: The losses that the call and the layers added, penalties of weights among them.
        note: Why it was not run; empty if it was.
        error: What it raised, if it was run and did.
        failed: The layer whose call raised that, the innermost; ``None`` where none did.
    """

    outputs: list[Any]
    layers: dict[int, list[Any]]
    losses: list[Any] = field(default_factory=list)
    note: str = ""
    error: str = ""
    failed: Any = None


def run_model(model: Any, inputs: Any = None, like: Any = None, again: bool = False, training: bool = False) -> Run:
    """Run a model once, and see what each of its layers gives.

    Args:
        model: A Keras model, rewritten or not. What its call changes is put back.
        inputs: A batch it takes; ``None`` makes one. What its call takes besides is made, as it was called before.
        like: The model for which a batch is made, if that is another.
        again: The model took these inputs before, so that it is not for them if it fails now.
        training: Run it in training mode; the default is inference.

    Raises:
        ModelError: The model does not take the inputs that are given.
    """
    batch = example_inputs.make_inputs(model if like is None else like) if inputs is None else inputs
    guessed = inputs is None and example_inputs.specs_of(model)[1]
    if inputs is not None:
        _require_batch(inputs)
    if batch is None:
        return Run([], {}, note=f"the model does not say what it takes; pass {hints.INPUTS}")
    layers = [found.layer for found in locate_layers(model)]
    if guessed and not all(layer.built for layer in layers):
        return Run(
            [], {}, note=f"the model has layers that are not built, and they would be by a guess; pass {hints.INPUTS}"
        )
    # Ids and not objects: a set of layers would call __hash__ and __eq__ of a user's class.
    owners = frozenset(id(layer) for layer in layers if keras.own_weights(layer))
    calls: dict[int, list[Any]] = {}
    failed: list[Any] = []

    def recorded(layer: Any, outputs: Any) -> Any:
        if id(layer) in owners and keras.current_graph() is None:
            calls.setdefault(id(layer), []).extend(arrays_of(outputs))
        return outputs

    try:
        with (
            progress.stage("running the model"),
            preserved(model, *layers),
            keras.kept_input_specs(model) if guessed else contextlib.nullcontext(),
            keras.changed_calls(recorded, failed.append),
        ):
            further = example_inputs.make_all(model, keras.further_specs(model), len(keras.ops.flatten(batch)[0]))
            outputs = arrays_of(model(batch, **further, **keras.training_argument(model, training)))
            if _say_nothing(outputs):
                return Run([], {}, note=f"the model gives nothing but NaN on this batch; pass {hints.INPUTS}")
            return Run(outputs, calls, arrays_of(list(model.losses)))
    except Exception as error:
        reason = first_line(error)
        if inputs is not None and not again:
            raise ModelError(f"{hints.INPUTS} is no batch that {model.name} takes: {reason}") from error
        # Whatever a model raises on inputs made for it, its weights are compared.
        note = f"the model raised {reason!r}; pass {hints.INPUTS}"
        return Run([], calls, [], note, reason, failed[0] if failed else None)


def _say_nothing(outputs: list[Any]) -> bool:
    """Tell whether all numbers of some outputs are NaN, whatever is wrong with the model or the batch."""
    several = [array for array in outputs if array.size]
    return bool(several) and all(array.dtype.kind == "f" and np.isnan(array).all() for array in several)


def look(model: Any, inputs: Any) -> None:
    """Call a model on inputs in inference, for what its layers see of them; what the call changes is put back."""
    layers = [found.layer for found in locate_layers(model)]
    with preserved(model, *layers), observing_all():
        further = example_inputs.make_all(model, keras.further_specs(model), len(keras.ops.flatten(inputs)[0]))
        model(inputs, **further, **keras.training_argument(model, False))


def _require_batch(inputs: Any) -> None:
    if keras.is_dataset(inputs):
        raise ModelError(
            f"{hints.INPUTS} is a batch, and a tf.data.Dataset has many: give the x of one, next(iter(dataset))."
        )
    if isinstance(inputs, str | os.PathLike):
        raise ModelError(
            f"{hints.INPUTS} is a batch of arrays, and {str(inputs)!r} is text; numpy.load reads a file of them."
        )
    if any(np.ndim(each) and np.shape(each)[0] == 0 for each in keras.ops.flatten(inputs)):
        raise ModelError(f"{hints.INPUTS} has an array without rows; give a batch of at least one.")


def run_layer(layer: Any, fan_in: int) -> tuple[list[Any], str]:
    """Run a layer by itself on a random batch of its own shape and dtype, the same batch each time.

    Args:
        layer: A built layer, rewritten or not. What its call changes is put back.
        fan_in: The size of its input's last axis, where the layer does not say what it takes.

    Returns:
        The arrays it gave, none where it cannot be run on one input alone, and what it raised then.
    """
    error = ""
    for size in (example_inputs.SIZE, _WIDE):
        batch = np.random.default_rng(0).standard_normal(_input_shape(layer, fan_in, size))
        try:
            with (
                preserved(layer, *keras.layers_below(layer)),
                keras.autocast(layer),
            ):
                dtype = keras.dtype_of(layer.compute_dtype).as_numpy_dtype
                outputs = arrays_of(layer.call(keras.ops.convert_to_tensor(batch.astype(dtype))))
        except Exception as raised:  # noqa: BLE001  a call that wants more inputs, or a context: not ours to judge
            error = error or first_line(raised)
            continue
        if any(array.size for array in outputs):
            return outputs, ""
    return [], error


def _input_shape(layer: Any, fan_in: int, size: int) -> list[int]:
    """Return the shape of a layer's input, with ``size`` for every dimension after the first that is open."""
    spec, built = layer.input_spec, layer.get_build_config()
    if spec is not None and not isinstance(spec, list | tuple | dict) and spec.axes:
        shape = [example_inputs.SIZE, *[size] * ((spec.ndim or spec.min_ndim) - 1)]
        for axis, needed in spec.axes.items():
            shape[axis] = needed
        return shape
    if built is not None and all(isinstance(each, int | None) for each in built["input_shape"]):
        return [example_inputs.SIZE, *(size if each is None else each for each in built["input_shape"][1:])]
    return [example_inputs.SIZE, fan_in]
