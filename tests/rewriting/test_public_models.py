"""Models that ship with tf-keras and were written by nobody here."""

import numpy as np
import pytest
import tf_keras

import rewriter
from arrays import bits
from short_cases import cases

APPLICATIONS = {
    "vgg16": lambda: tf_keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=5),
    "densenet": lambda: tf_keras.applications.DenseNet121(weights=None, input_shape=(32, 32, 3), classes=5),
    "convnext": lambda: tf_keras.applications.ConvNeXtTiny(weights=None, input_shape=(32, 32, 3), classes=5),
}


def wide_and_deep():
    deep = tf_keras.Sequential([tf_keras.layers.Dense(8, activation="relu"), tf_keras.layers.Dense(3)])
    return tf_keras.experimental.WideDeepModel(tf_keras.experimental.LinearModel(units=3), deep)


@pytest.mark.parametrize("name", cases(APPLICATIONS, {"vgg16"}))
def test_applications(name):
    """Outputs are bit-equal and every weight comes back, in a model where Dense layers are the few among many."""
    model = APPLICATIONS[name]()
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype("float32")
    expected = model(x)
    before = [(weight.name, bits(weight.numpy())) for weight in model.weights]
    decided = rewriter.plan(model)
    assert decided.merges
    rewriter.rewrite(model, strict=True)
    assert bits(model(x)) == bits(expected)
    rewriter.split(model)
    assert [(weight.name, bits(weight.numpy())) for weight in model.weights] == before


def test_premade_models():
    """WideDeepModel, a LinearModel inside it, trains on bit for bit through a rewrite and a split."""
    x = np.random.default_rng(0).standard_normal((24, 6)).astype("float32")
    y = np.random.default_rng(1).standard_normal((24, 3)).astype("float32")
    inputs = [x, x]
    pair = []
    for _ in range(2):
        tf_keras.utils.set_random_seed(1)
        model = wide_and_deep()
        model.compile("adam", "mse")
        model.fit(inputs, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
        pair.append(model)
    original, model = pair
    rewriter.rewrite(model, optimizer="keep")
    assert len(rewriter.plan(model).merged) == 2
    for each in pair:
        each.fit(inputs, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    rewriter.split(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in original.weights]
