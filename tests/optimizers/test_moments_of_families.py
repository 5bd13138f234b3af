"""What a rule is told of layers of each family, against the gradients at each position."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from tf_keras import layers

import rewriter
from asking_rule import WAYS, Asking, around, flowing_back, furthest, moments_of, numbers
from moments_oracle import Moments


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


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("way", "reduced"), [*((way, False) for way in WAYS), ("graph", True)])
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
