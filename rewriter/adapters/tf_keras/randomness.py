"""Random numbers: the states that a run of a model draws from, kept."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops
from tf_keras.src.backend import _SEED_GENERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Inside, random numbers come from elsewhere: Python, NumPy, TensorFlow and Keras go on as if none was drawn.

    TensorFlow keeps a counter for each seed that an eager operation was given, so the seeds inside are not those that
    come next.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  a user's code may draw from it
    eager, shared = context.context(), stateful_random_ops.global_generator
    seeds, shared_state = getattr(eager, "_rng", None), None if shared is None else shared.state.read_value()
    keras = getattr(_SEED_GENERATOR, "generator", None)
    if seeds is not None:
        eager._rng = random.Random("rewriter")  # noqa: S311
    if keras is not None:
        _SEED_GENERATOR.generator = random.Random("rewriter")  # noqa: S311
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if seeds is not None:
            eager._rng = seeds
        if keras is not None:
            _SEED_GENERATOR.generator = keras
        stateful_random_ops.global_generator = shared
        if shared is not None:
            shared.state.assign(shared_state)


def generator_states(layer: Any) -> list[Any]:
    """List the variables of the random generators that a layer holds, Keras's own and those of a user."""
    held = [*vars(layer).values(), getattr(vars(layer).get("_random_generator"), "_generator", None)]
    return [each.state for each in held if isinstance(each, tf.random.Generator)]
