"""What a rule is told of what its layers read and of what flows back, against the gradients at each position."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from numpy.lib.stride_tricks import sliding_window_view
from tf_keras import layers

import rewriter
from moments_oracle import Moments

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


def as_positions(x):
    return x.reshape(len(x), -1, x.shape[-1])


def windows(x):
    """What a convolution of two by two in steps of one reads, the channels the fastest."""
    found = sliding_window_view(x, (2, 2), (1, 2))  # examples, rows, columns, channels, 2, 2
    found = np.transpose(found, (0, 1, 2, 4, 5, 3))
    return found.reshape(len(x), -1, 4 * x.shape[-1])


def causal(x):
    padded = np.pad(x, ((0, 0), (2, 0), (0, 0)))
    return np.concatenate([padded[:, :-2], padded[:, 2:]], axis=2)  # of a window of two, three apart less one


# A layer, its input, what its kernel rows read, and whether the loss counts examples and not positions.
CASES = {
    "dense": (lambda: layers.Dense(3, "tanh"), lambda: numbers(6, 5), as_positions, False),
    "no activation": (lambda: layers.Dense(3), lambda: numbers(6, 5), as_positions, False),
    "positions": (lambda: layers.Dense(3, "tanh"), lambda: numbers(6, 2, 4, 5), as_positions, False),
    "einsum": (
        lambda: layers.EinsumDense("abcd,cde->abe", (4, 3), activation="tanh", bias_axes="e"),
        lambda: numbers(6, 4, 2, 5),
        lambda x: x.reshape(6, 4, 10),
        False,
    ),
    "heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), activation="tanh", bias_axes="de"),
        lambda: numbers(6, 4, 5),
        as_positions,
        False,
    ),
    "convolution": (lambda: layers.Conv2D(3, 2, activation="tanh"), lambda: numbers(6, 4, 5, 2), windows, True),
    "causal": (
        lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2, activation="tanh"),
        lambda: numbers(6, 5, 2),
        causal,
        True,
    ),
}


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


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reduced", [False, True])
def test_moments_are_those_of_the_gradients_at_each_position(name, way, reduced):
    make, inputs, read, of_examples = CASES[name]
    x = inputs()
    model, plain = around(make, x)
    rewriter.rewrite(model, Asking(reduce=reduced), layers="all")
    model.compile(model.optimizer, "mse", **WAYS[way])
    expected = Moments(reduced=reduced)
    for _ in range(3):
        x, y = inputs(), numbers(6, 2)
        back = flowing_back(plain, plain.layers[1], x, y)
        positions = read(x)
        expected.add([(positions, back.reshape(*positions.shape[:2], -1))], counted=6 if of_examples else None)
        model.train_on_batch(x, y)
        model.predict(x, verbose=0)
        model.evaluate(x, y, verbose=0)
        assert furthest(moments_of(model, model.layers[1]), expected.means()) <= 1e-10
