"""A layer of Keras 3 whose surgery is interrupted is as it was, and trains on."""

import keras
import numpy as np
import pytest
from keras import layers
from rewriter.keras3.adapters.keras3 import layers as surgery  # type: ignore[import-not-found]

import rewriter

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
X = np.random.default_rng(0).standard_normal((8, 4)).astype("float32")


def train(model):
    model.fit(X, X[:, :3], shuffle=False, verbose=0)


def trained():
    keras.utils.set_random_seed(0)
    first = layers.Dense(5, kernel_regularizer="l2", name="first")
    model = keras.Sequential([keras.Input((4,)), first, layers.Dense(3, name="second")])
    model.compile("adam", "mse")
    train(model)
    return model


def state_of(model):
    return [each.path for each in model.weights], [each.tobytes() for each in model.get_weights()], len(model.losses)


@pytest.mark.parametrize("step", ["_add_weight", "set_class", "_attach_losses"])
@pytest.mark.parametrize("splits", [False, True])
def test_the_surgery_of_a_layer(splits, step, monkeypatch):
    model, plain = trained(), trained()
    if splits:
        rewriter.rewrite(model, "keep")
    before, function, calls = state_of(model), getattr(surgery, step), []

    def interrupted(*given, **named):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return function(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(surgery, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            rewriter.split(model) if splits else rewriter.rewrite(model, "keep")
    assert state_of(model) == before
    for each in (model, plain):
        train(each)
    for one, other in zip(rewriter.split(model).get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
