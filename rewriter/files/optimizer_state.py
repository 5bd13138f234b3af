"""The optimizer in a model file: what Keras writes and does not read again, and what it does not write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core.errors import RewriterError, first_line

from ..adapters import keras, required
from ..optimizers.observed_model import observe_model, recall_layers
from ..rewriting.model_run import run_model
from .completeness import holding, optimizer_shapes, optimizer_values
from .formats import Format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..adapters.capabilities import Checkpoints


_CONFIG, _STATE = "rewriter_optimizer.json", "rewriter_optimizer.npz"
_NUMBERS_OF_NEW = 3


def read_uncounted(optimizer: Any) -> dict[str, float]:
    """Read the numbers of an optimizer that Keras does not save in ``.keras`` and ``.h5``, each exact in JSON."""
    return {
        name: keras.ops.convert_to_numpy(value).item() for name, value in keras.uncounted_variables(optimizer).items()
    }


def restore_uncounted(model: Any, values: Mapping[str, float]) -> None:
    """Give the optimizer of a loaded model the numbers that :func:`read_uncounted` read."""
    for name, variable in keras.uncounted_variables(keras.optimizer_of(model)).items():
        if name in values:
            variable.assign(values[name])
    if model.run_eagerly:
        keras.recount_steps(keras.optimizer_of(model))


def restore_from_file(path: Path, kind: Format, model: Any) -> str:
    """Complete the optimizer state of a model that was loaded from a ``.keras`` or ``.h5`` file.

    Keras leaves an optimizer fresh, or filled in part, where the state does not fit it, and only logs that; it is made
    anew then, for the layers that it had chosen. In ``.h5`` Keras also fails at any state inside a
    ``LossScaleOptimizer``, and Keras 3 at any state, as it makes slots for none of the weights; that is loaded here.

    Returns:
        Why the state could not be loaded, ``""`` where it was, or where there is none.
    """
    held = holding(path, kind, model)
    if held.is_scaled and keras.inner_optimizer(keras.optimizer_of(model)) is keras.optimizer_of(model):
        # Keras writes the optimizer that compile was given, and wraps it again only under the same policy.
        keras.set_optimizer(model, required(keras.loss_scale, "a loss scale").wrap(keras.optimizer_of(model)))
    stored = held.optimizer
    if _is_new(stored):
        return ""
    is_scaled = keras.inner_optimizer(keras.optimizer_of(model)) is not keras.optimizer_of(model)
    fits = stored == optimizer_shapes(keras.optimizer_of(model))
    if fits and not (kind is Format.H5 and is_scaled):
        return ""
    if not fits:
        _renew_optimizer(model)
        keras.build_slots(keras.optimizer_of(model), keras.trained_variables(model))
    needed = optimizer_shapes(keras.optimizer_of(model))
    if stored != needed:
        return _start_anew(model, f"{len(stored)} variables in the file, {len(needed)} needed")
    keras.load_variables(keras.optimizer_of(model), optimizer_values(path, kind, model))
    return ""


def restore_from_checkpoint(folder: Path, model: Any) -> str:
    """Restore what Keras has written into a SavedModel and does not read.

    That is the state of its optimizer, and weights that some custom layers make again when Keras revives them.

    Returns:
        Why the optimizer's state could not be restored, ``""`` where it was, or where there is none.
    """
    checkpoints = required(keras.checkpoints, "a SavedModel")
    path = str(folder / "variables" / "variables")
    has_slots = any("/_variables/" in key or ".OPTIMIZER_SLOT" in key for key in checkpoints.shapes_in(path))
    _settle(model, checkpoints)
    optimizer = keras.optimizer_of(model) if keras.is_compiled(model) else None
    try:
        if optimizer is not None and has_slots:
            recall_layers(optimizer, model)
            trained = keras.trained_variables(model)
            keras.build_slots(keras.inner_optimizer(optimizer), trained)
        status = checkpoints.read(path, model)
        if optimizer is not None:
            status.assert_existing_objects_matched()
            if model.run_eagerly:
                keras.recount_steps(optimizer)
    except RewriterError:
        raise
    except (AssertionError, ValueError, *keras.FILE_ERRORS) as error:
        return "" if optimizer is None else _start_anew(model, first_line(error))
    return ""


def _settle(model: Any, checkpoints: Checkpoints) -> None:
    """Have layers make now what they would make at the first call, in place of what was revived.

    A ``MultiHeadAttention`` does, in a subclassed model; a model of a graph of layers has been called already.
    """
    if keras.is_graph_network(model):
        return
    revived = [id(variable) for variable in keras.trained_variables(model)]
    run_model(model)
    checkpoints.remember_input_shape(model)
    trained = [id(variable) for variable in keras.trained_variables(model)]
    if trained != revived and keras.is_compiled(model):
        _renew_optimizer(model)


def _is_new(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Tell whether a state is one from before the first step, by the shapes of its variables.

    That is a count of iterations, in Keras 3 the learning rate, and of Nadam one number more.
    """
    return not any(shapes) and len(shapes) <= _NUMBERS_OF_NEW


def _renew_optimizer(model: Any) -> None:
    optimizer = keras.optimizer_of(model)
    renewed = type(optimizer).from_config(optimizer.get_config())
    observe_model(renewed, model)
    keras.set_optimizer(model, renewed)


def _start_anew(model: Any, reason: str) -> str:
    optimizer = keras.optimizer_of(model)
    _renew_optimizer(model)
    name = type(keras.inner_optimizer(optimizer)).__name__
    return f"the state of its {name} does not fit the model and is not loaded, training starts without it: {reason}"


def write_optimizer(folder: Path, config: dict[str, Any], state: Mapping[str, Any]) -> None:
    """Write an optimizer's settings and its state, as :func:`read_state` read it, into a SavedModel folder."""
    (folder / _CONFIG).write_text(json.dumps(config), "utf-8")
    np.savez(folder / _STATE, **state)


def read_state(optimizer: Any) -> dict[str, Any]:
    """Read an optimizer's variables, numbered in the order in which Keras saves them; copies."""
    return {
        str(index): keras.ops.convert_to_numpy(value) for index, value in enumerate(keras.saved_variables(optimizer))
    }


def restore_optimizer(folder: Path, model: Any) -> str:
    """Give a model loaded from a SavedModel folder the optimizer, with its state, that was written beside it.

    Returns:
        Why the state could not be loaded, ``""`` where it was: Keras may not know which layers were frozen.
    """
    optimizer = keras.optimizer_from_config(json.loads((folder / _CONFIG).read_text("utf-8")))
    observe_model(optimizer, model)
    keras.build_slots(keras.inner_optimizer(optimizer), keras.trained_variables(model))
    keras.set_optimizer(model, optimizer)
    with np.load(folder / _STATE, allow_pickle=False) as state:
        values = [state[str(index)] for index in range(len(state))]
    needed, stored = optimizer_shapes(optimizer), [value.shape for value in values]
    if stored != needed and not _is_new(stored):
        return _start_anew(model, f"{len(values)} variables in the file, {len(needed)} needed")
    keras.load_variables(optimizer, values)
    return ""
