"""What ``fit`` and ``predict`` do with one batch, as a function to be timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..data_batches import Batch


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
        keras.set_optimizer(model, optimizer)
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
