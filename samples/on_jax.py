"""Keras 3 on JAX: keep Adam and center it, by ``fit`` and in a loop of one's own, and export a plain Keras model.

Run it with ``python samples/on_jax.py``, on another backend with ``KERAS_BACKEND=torch``; the loop is JAX's.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import rewriter


def main() -> None:
    """Train, rewrite, train on, export."""
    generator = np.random.default_rng(0)
    x = generator.normal(3.0, 1.0, (256, 20)).astype("float32")  # features that are not centered
    y = np.sin(x[:, :3]).astype("float32")
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.fit(x, y, epochs=5, verbose=0)

    rewriter.rewrite(model, optimizer="centered")  # Adam goes on with its state
    model.fit(x, y, epochs=5, verbose=0)
    if keras.config.backend() == "jax":
        train_statelessly(model, x, y)

    path = Path(tempfile.mkdtemp(), "tuned.keras")
    rewriter.export(model, path)
    exported = keras.saving.load_model(path)
    loss = exported.evaluate(x, y, verbose=0)
    print(f"on {keras.config.backend()}: loss {loss:.4f}, {rewriter.verify(model, exported)}")


def train_statelessly(model: keras.Model, x: np.ndarray, y: np.ndarray) -> None:
    """Take some steps in JAX's own way: the state goes in, and comes out."""
    import jax  # noqa: PLC0415  there is no JAX on another backend

    optimizer = model.optimizer

    def loss(trained: list[jax.Array], others: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        outputs, others = model.stateless_call(trained, others, x, training=True)
        return ((outputs - y) ** 2).mean(), others

    @jax.jit  # type: ignore[untyped-decorator]
    def step(trained: list[jax.Array], others: list[jax.Array], state: list[jax.Array]) -> tuple[list[jax.Array], ...]:
        gradients, others = jax.grad(loss, has_aux=True)(trained, others)
        trained, state = optimizer.stateless_apply(state, gradients, trained)
        return trained, others, state

    # Among what is trained are the sums that layers keep of their inputs.
    held = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    values = tuple([variable.value for variable in of] for of in held)
    for _ in range(10):
        values = step(*values)
    for variables, of in zip(held, values, strict=True):
        for variable, value in zip(variables, of, strict=True):
            variable.assign(value)


if __name__ == "__main__":
    main()
