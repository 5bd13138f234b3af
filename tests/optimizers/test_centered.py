"""Centered coordinates, against NumPy in float64: the forward and backward pass, the means, the rule and the step."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from centered_oracle import Adam, Sgd, train
from rewriter.optimizers.centered import center

RATE = float(np.float32(0.03))
RULES = {
    "SGD": (lambda: optimizers.SGD(RATE), lambda: Sgd(RATE)),
    "momentum": (lambda: optimizers.SGD(RATE, 0.87), lambda: Sgd(RATE, 0.87)),
    "nesterov": (lambda: optimizers.SGD(RATE, 0.87, nesterov=True), lambda: Sgd(RATE, 0.87, nesterov=True)),
    "Adam": (lambda: optimizers.Adam(RATE), lambda: Adam(RATE)),
}
WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


def network(seed=1):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential(
        [layers.Dense(7, activation="tanh", input_shape=(5,), dtype="float64"), layers.Dense(3, dtype="float64")]
    )


def batches(generator, steps, size=8):
    """Inputs with means as large as three spreads; the last batch is smaller than the others."""
    sizes = [size] * (steps - 1) + [size // 2]
    return [(generator.normal(3.0, 1.0, (rows, 5)), generator.standard_normal((rows, 3))) for rows in sizes]


def fit(model, data):
    for x, y in data:
        model.train_on_batch(x, y)


@pytest.fixture
def float64():
    tf_keras.backend.set_floatx("float64")
    yield
    tf_keras.backend.set_floatx("float32")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_rule_in_numpy(generator, rule, way):
    """300 steps of a network of two layers."""
    keras_rule, numpy_rule = RULES[rule]
    model = network()
    rewriter.rewrite(model, center(keras_rule()))
    model.compile(model.optimizer, "mse", **WAYS[way])
    model.optimizer.build(model.trainable_variables)
    start = [layer.augmented_kernel.numpy() for layer in model.layers]
    steps = 300 if way == "graph" else 40
    data = batches(generator, steps)
    fit(model, data)
    expected = train(start, data, numpy_rule())
    for layer, weights in zip(model.layers, expected, strict=True):
        assert np.abs(layer.augmented_kernel.numpy() - weights).max() <= 1e-10
