"""What ``fit`` and ``predict`` do with one batch, as a function that returns when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from .models import set_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable


def training_step(
    model: Any, optimizer: Any, inputs: Any, targets: Any, spec: Callable[[Any], Any], jit_compile: bool
) -> Callable[[], Any]:
    """Make the training step of a model under an optimizer.

    Args:
        model: The model. Its optimizer and, without targets, its loss are replaced.
        optimizer: The optimizer, of no other step.
        inputs: What it trains on, the same batch in each call.
        targets: Towards what, with the model's own ``train_step`` and loss; ``None`` trains towards zero, with that of
            any Keras model and the mean square.
        spec: Of no meaning here: a step is traced for the batch.
        jit_compile: Whether it is compiled; if not, it is what Keras makes of it, which on JAX is compiled too.
    """
    del spec
    if targets is None:
        targets = keras.tree.map_structure(keras.ops.zeros_like, model(inputs, training=False))
        keras.Model.compile(model, optimizer, loss="mse", jit_compile=jit_compile or "auto")
        take = keras.Model.train_step
    else:
        set_optimizer(model, optimizer)
        take = type(model).train_step
    data = (inputs, targets)
    model._symbolic_build(data_batch=data)
    step: Any = _STEPS[keras.config.backend()](model, take, data, jit_compile)
    for _ in range(2):  # traced now, and once more on what it returned: the model's optimizer may be another one later
        step()
    return step  # type: ignore[no-any-return]


def inference_step(model: Any, inputs: Any, spec: Callable[[Any], Any], jit_compile: bool) -> Callable[[], Any]:
    """Make the forward pass of a model, as ``predict`` does it, with the arguments of :func:`training_step`."""
    del spec
    step: Any = _FORWARD[keras.config.backend()](model, inputs, jit_compile)
    step()  # traced now: another optimizer may add statistics to the model later
    return step  # type: ignore[no-any-return]


def _of_jax(model: Any, take: Any, data: Any, _: bool) -> Callable[[], Any]:
    import jax  # noqa: PLC0415  of this backend alone

    variables = [model.trainable_variables, model.non_trainable_variables]
    variables += [model.optimizer.variables, model.metrics_variables]
    # Copies, as the step gives the memory of a state on to the next one.
    state = [jax.tree.map(jax.numpy.copy, tuple(each.value for each in of)) for of in variables]
    step = jax.jit(lambda state, data: take(model, state, data), donate_argnums=0)

    def run() -> Any:
        logs, state[:] = step(tuple(state), data)
        return jax.block_until_ready((logs, state))

    return run


def _forward_of_jax(model: Any, inputs: Any, _: bool) -> Callable[[], Any]:
    import jax  # noqa: PLC0415  of this backend alone

    states = [tuple(each.value for each in of) for of in (model.trainable_variables, model.non_trainable_variables)]
    call = jax.jit(lambda states, inputs: model.stateless_call(*states, inputs, training=False)[0])

    def run() -> Any:
        return jax.block_until_ready(call(states, inputs))

    return run


def _of_tensorflow(model: Any, take: Any, data: Any, jit_compile: bool) -> Any:
    return _traced(lambda data: take(model, data), data, jit_compile or model.jit_compile)


def _forward_of_tensorflow(model: Any, inputs: Any, jit_compile: bool) -> Callable[[], Any]:
    compiled = getattr(model, "jit_compile", False)
    return _traced(lambda inputs: model(inputs, training=False), inputs, jit_compile or compiled)  # type: ignore[no-any-return]


def _traced(function: Callable[[Any], Any], data: Any, jit_compile: bool) -> Any:
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    traced = tf.function(function, jit_compile=bool(jit_compile), autograph=False)

    def run() -> Any:
        return tf.nest.flatten(traced(data))[0].numpy()

    return run


def _of_torch(model: Any, take: Any, data: Any, _: bool) -> Callable[[], Any]:
    optimizer = model.optimizer

    def run() -> Any:
        model.train()
        model.optimizer, now = optimizer, model.optimizer
        try:
            logs = take(model, data)
        finally:
            model.optimizer = now
        return {name: float(value) for name, value in logs.items()}

    return run


def _forward_of_torch(model: Any, inputs: Any, _: bool) -> Callable[[], Any]:
    import torch  # noqa: PLC0415  of this backend alone

    def run() -> Any:
        with torch.no_grad():
            outputs = keras.tree.flatten(model(inputs, training=False))
        return float(outputs[0].flatten()[0])

    return run


_STEPS = {"jax": _of_jax, "tensorflow": _of_tensorflow, "torch": _of_torch}
_FORWARD = {"jax": _forward_of_jax, "tensorflow": _forward_of_tensorflow, "torch": _forward_of_torch}
