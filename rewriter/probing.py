"""Inputs for a model, made from what it says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rewriter import keras_internals

_SIZE = 4  # for every dimension a model leaves open


def make_inputs(model: Any) -> Any:
    """Make a random batch for a model, the same batch each time.

    Args:
        model: A built model.

    Returns:
        Tensors in the structure the model takes: standard normal for floating dtypes, zeros for all others, since a
        zero is a valid index, token and label. ``None`` where the model does not say what it takes.
    """
    specs = keras_internals.input_specs(model)
    if specs is None:
        return None
    generator = np.random.default_rng(0)
    return tf.nest.map_structure(lambda spec: _make(spec, generator), specs)


def _make(spec: Any, generator: np.random.Generator) -> Any:
    shape = [_SIZE if size is None else size for size in spec.shape]
    if spec.dtype.is_floating:
        return tf.cast(generator.standard_normal(shape), spec.dtype)
    if spec.dtype == tf.string:
        return tf.fill(shape, "")
    return tf.zeros(shape, spec.dtype)
