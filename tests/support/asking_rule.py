"""A rule that moves nothing and asks for every moment, and what it is told."""

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter

NAMES = ("input_moment", "output_moment", "unit_moments")


WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


GENERATOR = np.random.default_rng(5)


@tf_keras.saving.register_keras_serializable("tests")
class Asking(rewriter.JointOptimizer):
    """Moves nothing, and asks for everything."""

    def __init__(self, learning_rate=0.0, **kwargs):
        settings = {key: kwargs.pop(key) for key in ("decay", "every", "reduce") if key in kwargs}
        self.statistics = dict.fromkeys(NAMES, rewriter.RunningMean(**{"decay": 0.5, **settings}))
        super().__init__(learning_rate, **kwargs)

    def update_layer(self, gradient, variable, layout):
        del layout
        variable.assign_sub(0 * gradient)
        for name in NAMES:
            assert self.statistic(name, variable) is not None


def numbers(*shape):
    return GENERATOR.normal(0.5, 1.0, shape)


def around(make, x):
    """A model around a layer, twice."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(3)
    inputs = tf_keras.Input(x.shape[1:])
    results = make()(inputs)
    head = layers.Dense(2)
    model = tf_keras.Model(inputs, head(layers.Flatten()(results)))
    plain = tf_keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    return model, plain


def flowing_back(plain, layer, x, y):
    """Return the gradient of the mean loss by the results of a layer before its activation."""
    activation, layer.activation = layer.activation, tf_keras.activations.linear
    before = layer(tf.constant(x))
    layer.activation = activation
    with tf.GradientTape() as tape:
        tape.watch(before)
        results = before if activation is None else activation(before)
        outputs = plain.layers[-1](layers.Flatten()(results))
        loss = tf.reduce_mean((outputs - y) ** 2)
    return tape.gradient(loss, before).numpy()


def moments_of(model, layer):
    return {name: model.optimizer.statistic(name, layer.augmented_kernel).numpy() for name in NAMES}


def furthest(one, other):
    return max(np.abs(one[name] - other[name]).max() / np.abs(other[name]).max() for name in NAMES)
