"""What ``fit`` and ``predict`` do with one batch, as a function that returns when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from .models import set_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable


def training_step(
    model: Any, optimizer: Any, inputs: Any, targets: Any, spec: Callable[[Any], Any], jit_compile: bool
) -> Callable[[], Any]:
    """Make the training step of a model under an optimizer, traced as ``fit`` does.

    Args:
        model: The model. Its optimizer and, without targets, its loss are replaced.
        optimizer: The optimizer, of no other step.
        inputs: What it trains on, the same batch in each call.
        targets: Towards what, with the model's own ``train_step`` and loss; ``None`` trains towards zero, with that of
            any Keras model and the mean square.
        spec: Returns the spec of a tensor of the batch.
        jit_compile: Whether XLA compiles the step, as ``compile(jit_compile=True)`` would.
    """
    if targets is None:
        targets = tf.nest.map_structure(tf.zeros_like, model(inputs, training=False))
        tf_keras.Model.compile(model, optimizer, loss="mse")
        take = tf_keras.Model.train_step
    else:
        set_optimizer(model, optimizer)
        take = type(model).train_step
    step: Any = _traced(lambda data: take(model, data), spec, (inputs, targets), jit_compile)
    step()  # traced now: the model's optimizer may be another one later
    # Variables that only the traced function uses die with what holds them.
    step.uses = (optimizer, model.compiled_loss, model.compiled_metrics)
    return step  # type: ignore[no-any-return]


def inference_step(model: Any, inputs: Any, spec: Callable[[Any], Any], jit_compile: bool) -> Callable[[], Any]:
    """Make the forward pass of a model, as ``predict`` does it, with the arguments of :func:`training_step`."""
    return _traced(lambda inputs: model(inputs, training=False), spec, inputs, jit_compile)  # type: ignore[no-any-return]


def _traced(function: Callable[[Any], Any], spec: Callable[[Any], Any], data: Any, jit_compile: bool) -> Any:
    specs = tf.nest.map_structure(spec, data)
    traced = tf.function(function, jit_compile=jit_compile, input_signature=[specs], autograph=False)

    def run() -> Any:
        # A value that is read is there; one output is enough to know that all of them are.
        return tf.nest.flatten(traced(data))[0].numpy()

    return run
