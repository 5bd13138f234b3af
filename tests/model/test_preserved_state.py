"""What running a model for a check changes is as it was before, whatever it is."""

import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from models import batch


class Counts(layers.Layer):
    """Does in its call all that a call may do."""

    def build(self, input_shape):
        self.trained = self.add_weight("trained", (input_shape[-1],), initializer="ones")
        self.large = self.add_weight("large", (400, 3), initializer="ones")
        self.steps = self.add_weight("steps", (), trainable=False, initializer="zeros", dtype="int64")
        self.in_a_dict = {"of lists": (tf.Variable(0.0, trainable=False),)}
        self.module = tf.Module()
        self.module.deep = {"variable": tf.Variable(tf.zeros((300,)), trainable=True)}
        self.untracked = lambda: None
        self.untracked.variable = self.hidden = None
        closed = tf.Variable(1.0, trainable=False)
        self.advance = lambda: closed.assign_add(1.0)
        self.generator = tf.random.Generator.from_seed(3)
        self.metric = tf_keras.metrics.Mean()
        self.calls, self.last, self.log, self.text = 0, 0.5, [], "none"

    def call(self, inputs):
        self.trained.assign(self.trained * 1.01)
        self.large.assign_add(tf.ones_like(self.large))
        self.steps.assign_add(1)
        self.in_a_dict["of lists"][0].assign_add(1.0)
        self.module.deep["variable"].assign_add(tf.ones((300,)))
        self.advance()
        self.metric.update_state(tf.reduce_mean(inputs))
        self.calls += 1
        self.last, self.text = float(self.calls), f"call {self.calls}"
        self.log.append(self.calls)
        self.cached = tf.reduce_sum(inputs)
        return inputs * self.trained + 0 * self.generator.normal(())

    def seen(self):
        variables = [self.trained, self.large, self.steps, self.in_a_dict["of lists"][0], self.module.deep["variable"]]
        variables += [self.generator.state, self.advance.__closure__[0].cell_contents, *self.metric.variables]
        plain = (self.calls, self.last, list(self.log), self.text, hasattr(self, "cached"))
        return [bits(variable.numpy()) for variable in variables], plain


class Draws(tf_keras.Model):
    """Draws from every global source there is, and writes to weights of layers that are not its own code."""

    def __init__(self):
        super().__init__()
        self.counts, self.dense, self.teacher = Counts(), layers.Dense(3), layers.Dense(3)
        self.noise = layers.GaussianNoise(0.1)
        self.scale = tf.Variable(1.0)

    def call(self, inputs):
        noise = tf.random.normal(()) + tf.random.get_global_generator().normal(())
        noise += random.random() + np.random.random()  # noqa: NPY002, S311  as users have it
        hidden = self.noise(self.counts(inputs), training=True)
        outputs = self.dense(hidden)
        self.scale.assign(0.99 * self.scale + 0.01 * tf.reduce_mean(self.dense.kernel))
        return self.scale * outputs + self.teacher(hidden) + 1e-9 * noise


def build():
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(5)
    tf.random.set_global_generator(tf.random.Generator.from_seed(7))
    model = Draws()
    model(batch()[0][:2])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def seen(model):
    with rewriter.standard_form(model):
        weights = [bits(weight.numpy()) for weight in model.weights]
    return weights, model.counts.seen(), list(model.noise._losses)


def drawn():
    return (
        tf.random.normal((2,)).numpy().tolist(),
        random.random(),  # noqa: S311
        np.random.random(),  # noqa: NPY002
        tf.random.get_global_generator().normal(()).numpy().item(),
        layers.Dense(2).kernel_initializer((2, 2)).numpy().tolist(),
    )


ACTS = {
    "rewrite": lambda model, _: rewriter.rewrite(model),
    "inputs": lambda model, _: rewriter.rewrite(model, inputs=batch()[0][:4]),
    "discover": lambda model, _: rewriter.plan(model, discover=True),
    "export": rewriter.export,
    "verify": lambda model, _: rewriter.verify(model, model),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_run_of_the_model_leaves_no_trace(act, tmp_path):
    """In variables trained or not, random states, metrics, and what the user's own code counts."""
    preserved, model = build(), build()
    before = seen(model)
    ACTS[act](model, tmp_path / "exported.keras")
    assert seen(model) == before == seen(preserved)
    draws = []
    for each in (False, True):
        model = build()
        if each:
            ACTS[act](model, tmp_path / "again.keras")
        draws.append([drawn() for _ in range(3)])
    assert draws[0] == draws[1]


def test_each_copy_of_a_distributed_variable_is_as_it_was():
    """Copies that each device has for itself differ, and go on to."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), layers.BatchNormalization(), layers.Dense(3)])
    mean = model.layers[1].moving_mean
    for index, single in enumerate(mean.values):
        single.assign(tf.fill((4,), 0.1 + index))
    before = [bits(single.numpy()) for single in mean.values]
    rewriter.rewrite(model)
    assert [bits(single.numpy()) for single in mean.values] == before
