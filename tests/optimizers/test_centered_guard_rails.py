"""Inputs that a centered optimizer must not make worse: far from zero, constant, empty, not finite, one at a time."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from rewriter import Centered
from short_cases import cases

# One of each kind: what divides by a root, by a largest value, by nothing, and what takes a sign.
RULES = ["SGD", "Adam", "Adadelta", "Adamax", "Lion"]


def model_of(optimizer=None, features=6, seed=4):
    tf_keras.utils.set_random_seed(seed)
    model = tf_keras.Sequential([layers.Dense(8, activation="relu", input_shape=(features,)), layers.Dense(2)])
    model.compile(optimizer or "sgd", "mse")
    return model


def losses(name, x, y, centered, epochs=1, **settings):
    model = model_of(getattr(optimizers, name)(**settings), x.shape[1])
    if centered:
        rewriter.rewrite(model, optimizer="centered")
    return model, model.fit(x, y, epochs=epochs, verbose=0).history["loss"]


@pytest.mark.parametrize("name", cases(["Adam", "RMSprop", "Adamax", "Nadam"], {"Adam", "RMSprop"}))
def test_features_a_hundred_spreads_from_zero(generator, name):
    """At the default rate, on a fresh network, where the bias alone would need a hundred thousand steps."""
    x = generator.standard_normal((512, 6)).astype("float32")
    y = np.tanh(x[:, :2] - x[:, 2:4])
    x = x + 100 * generator.choice(np.float32([-1, 1]), 6)
    (_, plain), (_, centered) = (losses(name, x, y, way, epochs=30) for way in (False, True))
    assert centered[-1] <= 1.2 * plain[-1]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("what", ["constant", "zero", "one at a time", "far away"])
def test_no_nan_where_there_was_none(generator, name, what):
    x = generator.standard_normal((24, 6)).astype("float32")
    x = {"constant": np.full_like(x, 3.0), "zero": 0 * x, "one at a time": x, "far away": x + 1000}[what]
    y = generator.standard_normal((24, 2)).astype("float32")
    model = model_of(getattr(optimizers, name)(1e-6 if what == "far away" else 1e-3))
    rewriter.rewrite(model, optimizer="centered")
    model.fit(x, y, batch_size=1 if what == "one at a time" else 8, epochs=3, verbose=0)
    assert all(np.isfinite(each).all() for each in model.get_weights())
    assert all(np.isfinite(each).all() for each in rewriter.split(model).optimizer.variables)


@pytest.mark.parametrize("way", [{}, {"run_eagerly": True}], ids=["graph", "eagerly"])
def test_an_empty_batch_changes_nothing(generator, way):
    """As an uneven split over workers gives: no positions, and a loss of nothing."""
    x, y = generator.standard_normal((8, 6)), generator.standard_normal((8, 2))
    model = model_of(optimizers.SGD(0.1))
    rewriter.rewrite(model, optimizer="centered")
    model.compile(model.optimizer, lambda y, made: tf.reduce_sum((y - made) ** 2), **way)
    model.train_on_batch(x, y)
    before = model.get_weights()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x[:0], training=True))
    model.optimizer.minimize(loss, model.trainable_variables, tape)
    assert all(np.allclose(one, other, atol=1e-7) for one, other in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_masked_positions_is_not_seen(bad):
    """A padding of anything: the plain layer computes with it, and its loss leaves that out."""
    x = np.ones((4, 3, 2), "float32")
    x[:, 2] = 7.0

    class Masked(layers.Layer):
        def call(self, inputs):
            return tf.identity(inputs)

        def compute_mask(self, inputs, mask=None):
            del mask
            return inputs[..., 0] != 7.0

    class Spoiled(layers.Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = True

        def call(self, inputs):
            return tf.where(inputs == 7.0, tf.cast(bad, inputs.dtype), inputs)

    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([layers.Input((3, 2)), Masked(), Spoiled(), layers.Dense(2)])
    model.compile(optimizers.SGD(0.1), "mse")
    rewriter.rewrite(model, optimizer="centered", check=False)
    model.optimizer.build(model.trainable_variables)
    model(x, training=True)
    seen = next(each for each in model.optimizer.variables if each.name.startswith("inputs")).numpy()
    assert seen.tolist() == [8.0, 8.0, 8.0]


def test_a_layer_that_is_never_called_is_left_alone(generator):
    class Half(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Dense(2), layers.Dense(2)

        def call(self, inputs):
            return self.used(inputs)

    model = Half()
    x, y = generator.standard_normal((8, 3)), generator.standard_normal((8, 2))
    model(x)
    model.unused.build((None, 3))
    model.compile(optimizers.Adam(0.1), "mse")
    rewriter.rewrite(model, optimizer="centered")
    unused = model.unused.augmented_kernel.numpy()
    model.fit(x, y, epochs=2, verbose=0)
    assert np.array_equal(model.unused.augmented_kernel.numpy(), unused)
    assert np.isfinite(model.used.augmented_kernel.numpy()).all()


def test_a_gradient_where_the_mean_is_a_thousand_times_the_spread(generator):
    """In a graph the backward product makes it: as exact as float32 is, where the difference loses three digits."""
    x = (generator.standard_normal((64, 6)) + 1000).astype("float32")
    upstream = generator.standard_normal((64, 8)).astype("float32")
    model = tf_keras.Sequential([layers.Dense(8, input_shape=(6,))])
    model.compile("sgd", "mse")
    rewriter.rewrite(model, Centered(optimizers.SGD(1.0)))
    kernel = model.layers[0].augmented_kernel
    before = kernel.numpy().astype(np.float64)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True) * upstream)
        model.optimizer.minimize(loss, model.trainable_variables, tape)

    step()
    moved = before[:-1] - kernel.numpy()[:-1]
    seen = model.optimizer.variables[-1].numpy().astype(np.float64)
    exact = (x - seen[:-1] / seen[-1]).T @ upstream
    assert np.abs(moved - exact).max() / np.abs(exact).max() <= 5e-5  # the mean itself is rounded to float32


def test_a_layer_that_was_frozen_when_it_was_built_is_named():
    """Keras speaks of training parts of a model separately, and of legacy optimizers."""
    model = model_of()
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    rewriter.rewrite(model, optimizer=Centered(optimizers.Adam()))
    x = np.ones((8, 6), "float32")
    model.train_on_batch(x, x[:, :2])
    model.layers[0].trainable = True
    model.compile(model.optimizer, "mse", run_eagerly=True)
    with pytest.raises(rewriter.OptimizerError, match=r"does not know dense.*/augmented_kernel.*perhaps it was frozen"):
        model.train_on_batch(x, x[:, :2])
