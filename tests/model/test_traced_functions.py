"""A function of a user's own that TensorFlow has traced with the variables of before is traced again, or warned of."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from models import batch


def build():
    return tf_keras.Sequential([tf_keras.Input((5,)), layers.Dense(4, activation="tanh"), layers.Dense(3)])


def traced_step(model, optimizer):
    """A loop of a notebook's own, in a graph."""

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


@pytest.mark.parametrize("change", ["rewrite", "split", "standard_form"])
def test_a_graph_of_a_users_own_is_traced_again(change):
    """It would train the old variables, and the new ones would never move."""
    weights = []
    for changed in (False, True):
        tf_keras.utils.set_random_seed(5)
        model = build()
        optimizer = optimizers.Adam(0.01)
        if change != "rewrite" and changed:
            rewriter.rewrite(model, optimizer=optimizer)
        step = traced_step(model, optimizer)
        x, y = map(tf.constant, batch())
        step(x, y)
        if changed and change == "rewrite":
            rewriter.rewrite(model, optimizer=optimizer)
        elif changed and change == "split":
            rewriter.split(model)
        elif changed:
            with rewriter.standard_form(model):
                step(x, y)
        if not changed and change == "standard_form":
            step(x, y)
        for _ in range(2):
            step(x, y)
        with rewriter.standard_form(model):
            weights.append([bits(weight) for weight in model.get_weights()])
    assert weights[0] == weights[1]


def test_a_traced_attribute_is_traced_again():
    """A model that keeps a tf.function under a name of its own."""

    class Own(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)
            self.forward = tf.function(self.dense.__call__)

        def call(self, inputs):
            return self.forward(inputs)

    model = Own()
    x, y = batch()
    model(x)
    model.compile("sgd", "mse", run_eagerly=True)
    rewriter.rewrite(model)
    before = model(x).numpy()
    model.fit(x, y, verbose=0)
    assert np.abs(model(x).numpy() - before).max() > 1e-4


def test_a_function_that_holds_old_variables_is_warned_of(caplog):
    """It is traced again, but with a list in its closure that nobody can renew."""
    model = build()
    variables, optimizer = model.trainable_variables, optimizers.SGD(0.03)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    step(*map(tf.constant, batch()))
    rewriter.rewrite(model)
    said = [each.getMessage() for each in caplog.records if each.name == "rewriter"]
    assert any("step holds variables that were replaced" in line for line in said)
