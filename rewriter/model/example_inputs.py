"""Example inputs: random numbers in the structure, shapes and dtypes that a model takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..adapters import keras
from .walk import locate_layers

SIZE = 4  # for every dimension a model leaves open, the batch among them


def specs_of(model: Any) -> tuple[Any, bool]:
    """Read the structure of ``TensorSpec`` that a model takes, and whether its dtypes are a guess.

    A model that was read from a ``.keras`` file and has not been called knows shapes alone: floats, as Keras builds it.
    ``None`` where it knows nothing.
    """
    known = keras.input_specs(model)
    return (keras.built_specs(model), True) if known is None else (known, False)


def input_names(model: Any) -> list[str]:
    """Name the inputs that a model takes, in the order of ``tf.nest.flatten``; none where it does not say."""
    specs, _ = specs_of(model)
    return sorted(specs) if isinstance(specs, dict) else keras.input_names(model)


def make_inputs(model: Any, batch_size: int = SIZE) -> Any:
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
    return None if specs is None else make_all(model, specs, batch_size, guessed)


def make_all(model: Any, specs: Any, batch_size: int, guessed: bool = False) -> Any:
    """Make a tensor for each ``TensorSpec`` of a structure, as :func:`make_inputs` does."""
    embeddings = keras.layer_classes("Embedding")
    # Where a zero is masked, or looked up in every table, outputs would say little.
    tables = [found.layer for found in locate_layers(model) if isinstance(found.layer, embeddings)]
    indices = min([SIZE, *(table.input_dim for table in tables)]) if tables else 1
    generator = np.random.default_rng(0)
    looked_up = guessed and bool(tables)
    return keras.ops.map_structure(lambda spec: _make(spec, batch_size, indices, generator, looked_up), specs)


def _make(spec: Any, batch_size: int, indices: int, generator: np.random.Generator, looked_up: bool) -> Any:
    sizes = [batch_size, *[SIZE] * (len(spec.shape) - 1)]
    shape = [given if size is None else size for size, given in zip(spec.shape, sizes, strict=False)]
    if spec.dtype.is_floating and not looked_up:
        return keras.ops.cast(generator.standard_normal(shape), spec.dtype)
    if spec.dtype.name == "string":
        return keras.ops.convert_to_tensor(np.full(shape, b""))
    if spec.dtype.is_bool:
        return keras.ops.ones(shape, spec.dtype)
    return keras.ops.cast(generator.integers(0, indices, shape), spec.dtype)
