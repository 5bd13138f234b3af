"""Running a model, or one layer of it, on inputs made for it, and leaving it as it was."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from rewriter import keras_internals, progress
from rewriter.comparison import arrays_of
from rewriter.errors import ModelError, first_line
from rewriter.untouched import untouched
from rewriter.walk import locate_layers

_SIZE = 4  # for every dimension a model leaves open, the batch among them
_WIDE = 32  # for those after the batch, where a layer takes no fewer: a convolution with a large kernel


@dataclass(frozen=True)
class Run:
    """What came out of a model.

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


def specs_of(model: Any) -> tuple[Any, bool]:
    """Read the structure of ``TensorSpec`` that a model takes, and whether its dtypes are a guess.

    A model that was read from a ``.keras`` file and has not been called knows shapes alone: floats, as Keras builds it.
    ``None`` where it knows nothing.
    """
    known = keras_internals.input_specs(model)
    return (keras_internals.built_specs(model), True) if known is None else (known, False)


def input_names(model: Any) -> list[str]:
    """Name the inputs that a model takes, in the order of ``tf.nest.flatten``; none where it does not say."""
    specs, _ = specs_of(model)
    return sorted(specs) if isinstance(specs, dict) else list(getattr(model, "input_names", None) or [])


def make_inputs(model: Any, batch_size: int = _SIZE) -> Any:
    """Make a random batch for a model, the same batch each time.

    Args:
        model: A built model.
        batch_size: Rows of the batch, where the model leaves that open.

    Returns:
        Tensors in the structure the model takes: standard normal for floating dtypes, ``True`` for booleans, which are
        masks, indices that each embedding of the model has, for whole numbers, or zeros where it has none, since a zero
        is a valid index and label. Floats that may be indices, as their dtype is not known, are whole numbers too.
        ``None`` where the model does not say what it takes.
    """
    specs, guessed = specs_of(model)
    return None if specs is None else _make_all(model, specs, batch_size, guessed)


def _make_all(model: Any, specs: Any, batch_size: int, guessed: bool = False) -> Any:
    # Where a zero is masked, or looked up in every table, outputs would say little.
    tables = [found.layer for found in locate_layers(model) if isinstance(found.layer, tf_keras.layers.Embedding)]
    indices = min([_SIZE, *(table.input_dim for table in tables)]) if tables else 1
    generator = np.random.default_rng(0)
    looked_up = guessed and bool(tables)
    return tf.nest.map_structure(lambda spec: _make(spec, batch_size, indices, generator, looked_up), specs)


def _make(spec: Any, batch_size: int, indices: int, generator: np.random.Generator, looked_up: bool) -> Any:
    sizes = [batch_size, *[_SIZE] * (len(spec.shape) - 1)]
    shape = [given if size is None else size for size, given in zip(spec.shape, sizes, strict=False)]
    if spec.dtype.is_floating and not looked_up:
        return tf.cast(generator.standard_normal(shape), spec.dtype)
    if spec.dtype == tf.string:
        return tf.fill(shape, "")
    if spec.dtype.is_bool:
        return tf.ones(shape, spec.dtype)
    return tf.cast(generator.integers(0, indices, shape), spec.dtype)


def run_model(model: Any, inputs: Any = None, like: Any = None, again: bool = False) -> Run:
    """Run a model once, in inference, and see what each of its layers gives.

    Args:
        model: A tf-keras model, rewritten or not. What its call changes is put back.
        inputs: A batch it takes; ``None`` makes one. What its call takes besides is made, as it was called before.
        like: The model for which a batch is made, if that is another.
        again: The model took these inputs before, so that it is not for them if it fails now.

    Raises:
        ModelError: The model does not take the inputs that are given.
    """
    batch = make_inputs(model if like is None else like) if inputs is None else inputs
    guessed = inputs is None and specs_of(model)[1]
    if inputs is not None:
        _require_batch(inputs)
    if batch is None:
        return Run([], {}, note="the model does not say what it takes; pass inputs=")
    layers = [found.layer for found in locate_layers(model)]
    if guessed and not all(layer.built for layer in layers):
        return Run([], {}, note="the model has layers that are not built, and they would be by a guess; pass inputs=")
    owners = [id(layer) for layer in layers if keras_internals.own_weights(layer)]
    calls: dict[int, list[Any]] = {}
    failed: list[Any] = []
    try:
        with (
            progress.stage("running the model"),
            untouched(model, *layers),
            keras_internals.kept_input_specs(model) if guessed else contextlib.nullcontext(),
            keras_internals.recorded_calls(
                owners,
                lambda layer, outputs: calls.setdefault(id(layer), []).extend(arrays_of(outputs)),
                failed.append,
            ),
        ):
            further = _make_all(model, keras_internals.further_specs(model), len(tf.nest.flatten(batch)[0]))
            outputs = arrays_of(model(batch, **further, **keras_internals.training_argument(model, False)))
            return Run(outputs, calls, arrays_of(list(model.losses)))
    except Exception as error:
        reason = first_line(error)
        if inputs is not None and not again:
            raise ModelError(f"inputs= is no batch that {model.name} takes: {reason}") from error
        # Whatever a model raises on inputs made for it, its weights are compared.
        note = f"the model raised {reason!r}; pass inputs="
        return Run([], calls, [], note, reason, failed[0] if failed else None)


def _require_batch(inputs: Any) -> None:
    if isinstance(inputs, tf.data.Dataset):
        raise ModelError("inputs= is a batch, and a tf.data.Dataset has many: give the x of one, next(iter(dataset)).")
    if isinstance(inputs, str | os.PathLike):
        raise ModelError(f"inputs= is a batch of arrays, and {str(inputs)!r} is text; numpy.load reads a file of them.")
    if any(np.ndim(each) and np.shape(each)[0] == 0 for each in tf.nest.flatten(inputs)):
        raise ModelError("inputs= has an array without rows; give a batch of at least one.")


def run_layer(layer: Any, fan_in: int) -> tuple[list[Any], str]:
    """Run a layer by itself on a random batch of its own shape and dtype, the same batch each time.

    Args:
        layer: A built layer, rewritten or not. What its call changes is put back.
        fan_in: The size of its input's last axis, where the layer does not say what it takes.

    Returns:
        The arrays it gave, none where it cannot be run on one input alone, and what it raised then.
    """
    error = ""
    for size in (_SIZE, _WIDE):
        batch = np.random.default_rng(0).standard_normal(_input_shape(layer, fan_in, size))
        try:
            with (
                untouched(layer, *keras_internals.layers_below(layer)),
                keras_internals.autocast_of(layer),
            ):
                dtype = tf.as_dtype(layer.compute_dtype).as_numpy_dtype
                outputs = arrays_of(layer.call(tf.convert_to_tensor(batch.astype(dtype))))
        except Exception as raised:  # noqa: BLE001  a call that wants more inputs, or a context: not ours to judge
            error = error or first_line(raised)
            continue
        if any(array.size for array in outputs):
            return outputs, ""
    return [], error


def _input_shape(layer: Any, fan_in: int, size: int) -> list[int]:
    """Say which shape of input a layer takes, with ``size`` for every dimension after the first that it leaves open."""
    spec, built = layer.input_spec, layer.get_build_config()
    if isinstance(spec, tf_keras.layers.InputSpec) and spec.axes:
        shape = [_SIZE, *[size] * ((spec.ndim or spec.min_ndim) - 1)]
        for axis, needed in spec.axes.items():
            shape[axis] = needed
        return shape
    if built is not None and all(isinstance(each, int | None) for each in built["input_shape"]):
        return [_SIZE, *(size if each is None else each for each in built["input_shape"][1:])]
    return [_SIZE, fan_in]
