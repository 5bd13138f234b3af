"""A merged layer that a loop of TensorFlow calls trains as if the loop were written out."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from short_cases import cases

TIMES = 3


def written_out(layer, x):
    for _ in range(TIMES):
        x = layer(x)
    return x


def loop(layer, x):
    return tf.while_loop(
        lambda place, _: place < TIMES,
        lambda place, x: (place + 1, layer(x)),
        [tf.constant(0), x],
        maximum_iterations=TIMES,  # without, XLA has no way back
    )[1]


def branch_in_loop(layer, x):
    return loop(lambda x: tf.cond(tf.reduce_sum(tf.abs(x)) >= 0, lambda: layer(x), lambda: x), x)


def loop_in_loop(layer, x):
    once = lambda x: tf.while_loop(  # noqa: E731
        lambda place, _: place < 1, lambda place, x: (place + 1, layer(x)), [tf.constant(0), x], maximum_iterations=1
    )[1]
    return loop(once, x)


class Repeated(layers.Layer):
    """Calls a layer several times, each time with what it gave before."""

    def __init__(self, how):
        super().__init__()
        self.how, self.inner = how, layers.Dense(6, "tanh")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.how(self.inner, inputs)


def trained(how, optimizer, **compiled):
    """Train a model, and return its weights and what its optimizer has."""
    tf_keras.utils.set_random_seed(3)
    model = tf_keras.Sequential([layers.InputLayer((6,)), Repeated(how), layers.Dense(2, dtype="float32")])
    model.compile("sgd", "mse", **compiled)
    rewriter.rewrite(model, optimizer())
    generator = np.random.default_rng(5)
    batches = generator.standard_normal((32, 6)) + 1, generator.standard_normal((32, 2))
    model.fit(*batches, batch_size=8, shuffle=False, verbose=0)
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return [*model.get_weights(), *(each.numpy().astype("float64") for each in inner.variables)]


def assert_near(one, other, tolerance):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


RULES = {
    "centered joint momentum": lambda: rewriter.Centered(rewriter.JointMomentum(0.05)),
    "KFAC": lambda: rewriter.KFAC(0.05),
    "KFAC, now and then": lambda: rewriter.KFAC(0.05, factors_every=2, every=2),
    "quasi-diagonal": lambda: rewriter.QuasiDiagonal(0.05, every=1),
}


@functools.cache
def trained_written_out(rule):
    return trained(written_out, RULES[rule], run_eagerly=True)


LOOPS = [*((branch_in_loop, rule) for rule in RULES), (loop, "KFAC"), (loop_in_loop, "KFAC")]


@pytest.mark.parametrize(("how", "rule"), cases(LOOPS, [(branch_in_loop, "quasi-diagonal"), (loop_in_loop, "KFAC")]))
def test_it_trains_as_if_written_out(how, rule):
    """What flows back is added outside of the loop, and read by the rule after that."""
    assert_near(trained(how, RULES[rule]), trained_written_out(rule), 1e-4)


@pytest.mark.parametrize("compiled", [{"jit_compile": True}, {"steps_per_execution": 2}], ids=["XLA", "two steps"])
def test_so_it_does_however_it_is_compiled(compiled):
    assert_near(trained(loop, RULES["KFAC"], **compiled), trained_written_out("KFAC"), 1e-4)


def test_so_it_does_in_float16():
    """The loss scale is read on the way back too."""
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    rule = RULES["KFAC, now and then"]
    assert_near(trained(branch_in_loop, rule), trained(written_out, rule), 3e-2)
