"""Centered training where a model is called in a function of its own, and where such a function is saved."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import rewriter
from arrays import bits
from layer_models import network
from layer_network import batches

OPTIMIZERS = {"SGD": lambda: tf_keras.optimizers.SGD(0.02, 0.9), "Adam": lambda: tf_keras.optimizers.Adam(0.01)}


def trained(optimizer, called, stepped, rows=8):
    """Train in a loop of one's own; ``called`` and ``stepped`` wrap the call of the model, and the step."""
    model = network()
    model.compile(optimizer(), "mse")
    rewriter.rewrite(model, "centered")
    call = called(lambda x: model(x, training=True))

    @stepped
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((call(x) - y) ** 2)
        model.optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )

    dtype = tf_keras.backend.floatx()
    for x, y in batches(10, rows):
        step(tf.constant(x + 3, dtype), tf.constant(y, dtype))
    return [variable.numpy() for variable in model.trainable_variables]


def as_it_is(function):
    return function


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_model_may_be_called_in_a_function_of_its_own(name):
    """TensorFlow differentiates that as a whole, under a tape outside of it, and compares shapes."""
    expected = trained(OPTIMIZERS[name], as_it_is, as_it_is)
    for stepped in (as_it_is, tf.function):
        for one, other in zip(trained(OPTIMIZERS[name], tf.function, stepped), expected, strict=True):
            assert np.abs(one - other).max() <= 1e-10


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_so_called_it_trains_bit_for_bit(name):
    """Of fewer rows than a vector register has numbers: of more, some processors were seen to add up otherwise."""
    expected, other = (trained(OPTIMIZERS[name], called, as_it_is, rows=3) for called in (as_it_is, tf.function))
    assert [bits(each) for each in other] == [bits(each) for each in expected]


def test_a_saved_model_of_one_that_is_not_compiled_needs_no_optimizer(tmp_path):
    """What Keras traces for it in training mode adds to nothing that lies in an optimizer."""
    model = rewriter.rewrite(network())
    assert model.optimizer.centered
    tf_keras.models.save_model(model, tmp_path / "model")
    x = batches(1)[0][0].astype(np.float32)
    assert bits(tf_keras.models.load_model(tmp_path / "model").predict(x)) == bits(model.predict(x))
