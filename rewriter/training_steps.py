"""What ``fit`` and ``predict`` do with one batch, as a function to be timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
import tf_keras

from rewriter import keras_internals
from rewriter.errors import FileError, ModelError, first_line
from rewriter.probing import make_inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Batch:
    """A batch of data.

    Attributes:
        inputs: Tensors in the structure the model takes.
        targets: Those it is trained towards; ``None``: towards zero, under the mean square of all outputs.
        is_fixed: Whether the model takes no batch of another size.
    """

    inputs: Any
    targets: Any = None
    is_fixed: bool = False

    @property
    def size(self) -> int:
        """The number of rows."""
        return int(tf.nest.flatten(self.inputs)[0].shape[0])

    def spec(self, tensor: Any) -> Any:
        """Tell what a traced function is to take in the place of a tensor of the batch."""
        return tf.TensorSpec([tensor.shape[0] if self.is_fixed else None, *tensor.shape[1:]], tensor.dtype)


def make_batch(model: Any, batch_size: int) -> Batch:
    """Make a random batch for a model from what it says of its inputs.

    Raises:
        ModelError: It says nothing of them.
    """
    inputs = make_inputs(model, batch_size)
    if inputs is None:
        raise ModelError(f"{model.name} does not say what it takes; give a batch of data (--data FILE.npz).")
    return Batch(inputs, is_fixed=_is_fixed(model))


def read_batch(path: Path, model: Any, batch_size: int) -> Batch:
    """Read the first rows of the arrays in an ``.npz`` file: ``x``, or one array for each input by its name; and ``y``.

    Args:
        path: The file.
        model: The model they are for; its compiled loss is used where there is ``y``.
        batch_size: How many rows.

    Raises:
        FileError: The file cannot be read, or has neither ``x`` nor all of the inputs.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: tf.convert_to_tensor(file[name][:batch_size]) for name in file.files}
    except (BadZipFile, EOFError, OSError, TypeError, ValueError) as error:
        raise FileError(f"{path}: no .npz file of arrays, {first_line(error)}") from error
    specs = keras_internals.input_specs(model)
    names = list(specs if isinstance(specs, dict) else getattr(model, "input_names", None) or ["x"])
    if not all(array.shape.rank and array.shape[0] for array in arrays.values()):
        raise FileError(f"{path} has an array without rows; each needs as many as the batch.")
    if "x" in arrays:
        inputs = arrays["x"]
    elif all(name in arrays for name in names):
        inputs = {name: arrays[name] for name in names} if isinstance(specs, dict) else [arrays[name] for name in names]
    else:
        found = ", ".join(arrays) or "nothing"
        raise FileError(f"{path} has {found}; it needs an array x, or one for each input: {', '.join(names)}.")
    targets = arrays.get("y")
    if targets is not None and not keras_internals.is_compiled(model):
        raise ModelError(f"{path} has targets y, and the model has no loss for them: compile it, or leave out y.")
    return Batch(inputs, targets, _is_fixed(model))


def training_step(model: Any, optimizer: Any, batch: Batch, jit_compile: bool = False) -> Callable[[], Any]:
    """Make the training step of a model under an optimizer.

    With targets it is the model's own ``train_step`` with what it was compiled with; without, that of any Keras model.
    It is traced, as ``fit`` does, for batches of any size, and counts on the optimizer: give each step one of its own.

    Args:
        model: The model. Its optimizer and, without targets, its loss are replaced.
        optimizer: The optimizer.
        batch: What it trains on, the same batch in each call.
        jit_compile: Whether XLA compiles the step, as ``compile(jit_compile=True)`` would.

    Returns:
        A function that takes the step and returns when it is done.
    """
    targets = batch.targets
    if targets is None:
        outputs = tf.nest.map_structure(tf.zeros_like, model(batch.inputs, training=False))
        tf_keras.Model.compile(model, optimizer, loss="mse")
        take, targets = tf_keras.Model.train_step, outputs
    else:
        keras_internals.set_optimizer(model, optimizer)
        take = type(model).train_step
    step = _traced(lambda data: take(model, data), batch, (batch.inputs, targets), jit_compile)
    step()  # traced now: the model's optimizer may be another one later
    # Variables that only the traced function uses die with what holds them.
    step.uses = (optimizer, model.compiled_loss, model.compiled_metrics)  # type: ignore[attr-defined]
    return step


def inference(model: Any, batch: Batch, jit_compile: bool = False) -> Callable[[], Any]:
    """Make the forward pass of a model, as ``predict`` does it.

    Args:
        model: The model.
        batch: What it takes.
        jit_compile: Whether XLA compiles it.

    Returns:
        A function that runs it and returns when it is done.
    """
    return _traced(lambda inputs: model(inputs, training=False), batch, batch.inputs, jit_compile)


def _traced(function: Callable[[Any], Any], batch: Batch, data: Any, jit_compile: bool) -> Callable[[], Any]:
    specs = tf.nest.map_structure(batch.spec, data)
    traced = tf.function(function, jit_compile=jit_compile, input_signature=[specs], autograph=False)

    def run() -> Any:
        # A value that is read is there; one output is enough to know that all of them are.
        return tf.nest.flatten(traced(data))[0].numpy()

    return run


def _is_fixed(model: Any) -> bool:
    specs = tf.nest.flatten(keras_internals.input_specs(model))
    return any(spec is not None and spec.shape.rank and spec.shape[0] is not None for spec in specs)
