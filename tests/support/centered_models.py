"""Small models for centered training, data for them, and the same training by hand."""

import numpy as np
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from centered_by_hand import ByHand
from rewriter import Centered

RATE = float(np.float32(0.03))


def beside(mean):
    return mean[:, np.newaxis]


def model_of(*inner, shape=(5,)):
    tf_keras.utils.set_random_seed(4)
    inputs = outputs = tf_keras.Input(shape)
    for layer in inner:
        outputs = layer(outputs)
    return tf_keras.Model(inputs, outputs)


def stack():
    return model_of(layers.Dense(6, activation="relu"), layers.Dense(3))


def shared_layer():
    dense = layers.Dense(5, activation="tanh")
    return model_of(dense, dense, layers.Dense(3))


def masked():
    return model_of(layers.Masking(0.0), layers.Dense(4), layers.Dense(3), shape=(6, 5))


def data_for(generator, model, steps=8, rows=8):
    shape, out = model.input_shape[1:], model.output_shape[1:]
    batches = [
        (generator.normal(2.0, 1.0, (rows, *shape)), generator.standard_normal((rows, *out))) for _ in range(steps)
    ]
    if len(shape) > 1:
        for x, _ in batches:
            x[:, -2:] = 0.0  # what Masking leaves out
    return batches


def dense_layers(model):
    found = {id(layer): layer for layer in model.layers if isinstance(layer, layers.Dense)}
    return list(found.values())


def by_hand(model, **options):
    rank = len(model.input_shape)
    positions = tuple(range(rank - 1))
    return ByHand(model, dict.fromkeys(dense_layers(model), (positions, beside, "kernel")), RATE, **options)


def assert_close(model, expected):
    for one, other in zip(rewriter.split(model).get_weights(), expected, strict=True):
        assert np.abs(one - other).max() <= 1e-10


def centered(model, **settings):
    rewriter.rewrite(model, Centered(optimizers.SGD(RATE, **settings)))
    return model


def batches(generator, steps, size=8):
    """Inputs with means as large as three spreads; the last batch is smaller than the others."""
    sizes = [size] * (steps - 1) + [size // 2]
    return [(generator.normal(3.0, 1.0, (rows, 5)), generator.standard_normal((rows, 3))) for rows in sizes]


def fit(model, data):
    for x, y in data:
        model.train_on_batch(x, y)


def small(seed=1):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential([layers.Dense(7, activation="tanh", input_shape=(5,)), layers.Dense(3)])


KEPT = {
    "SGD": lambda: optimizers.SGD(RATE, 0.87),
    "Adam": lambda: optimizers.Adam(RATE),
    "AdamW": lambda: optimizers.AdamW(RATE, weight_decay=0.01),
    "Lion": lambda: optimizers.Lion(RATE),
    "RMSprop": lambda: optimizers.RMSprop(RATE, momentum=0.5),
    "Adamax": lambda: optimizers.Adamax(RATE),
    "Nadam": lambda: optimizers.Nadam(RATE),
    "Adagrad": lambda: optimizers.Adagrad(RATE),
    "Adadelta": lambda: optimizers.Adadelta(RATE),
    "joint momentum": lambda: rewriter.JointMomentum(RATE, 0.87),
}
