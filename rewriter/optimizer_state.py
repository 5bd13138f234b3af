"""The optimizer of a rewritten model in a SavedModel folder: Keras writes its state there and never reads it again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras

from rewriter import keras_internals

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG, _STATE = "rewriter_optimizer.json", "rewriter_optimizer.npz"


def read_state(optimizer: Any) -> dict[str, Any]:
    """Read an optimizer's variables, numbered in the order in which Keras saves them; copies."""
    state: dict[str, Any] = {}
    optimizer.save_own_variables(state)
    return state


def write_optimizer(folder: Path, optimizer: Any, state: dict[str, Any]) -> None:
    """Write an optimizer's settings and its state, as :func:`read_state` read it, into a SavedModel folder."""
    (folder / _CONFIG).write_text(json.dumps(tf_keras.optimizers.serialize(optimizer)), "utf-8")
    np.savez(folder / _STATE, **state)


def restore_optimizer(folder: Path, model: Any) -> None:
    """Give a model loaded from a SavedModel folder the optimizer, with its state, that was written beside it."""
    if not (folder / _CONFIG).is_file() or not keras_internals.is_compiled(model):
        return
    optimizer = tf_keras.optimizers.deserialize(json.loads((folder / _CONFIG).read_text("utf-8")))
    optimizer.build(model.trainable_variables)
    with np.load(folder / _STATE, allow_pickle=False) as state:
        optimizer.load_own_variables(dict(state))
    keras_internals.set_optimizer(model, optimizer)
