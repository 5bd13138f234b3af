"""A layer that reads a sparse tensor trains as it does unmerged, or is refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers
from tf_keras.optimizers import legacy

import rewriter

FEATURES = 20
OPTIMIZERS = {
    "Adam": lambda: legacy.Adam(0.03),
    "Adagrad": lambda: legacy.Adagrad(0.1),
    "SGD": lambda: legacy.SGD(0.05),
    "RMSprop": lambda: legacy.RMSprop(0.01),
    "current SGD": lambda: tf_keras.optimizers.SGD(0.05, momentum=0.9),
    "current Adamax": lambda: tf_keras.optimizers.Adamax(0.01),
    "SGD with momentum": lambda: legacy.SGD(0.05, momentum=0.9),
    "RMSprop with momentum": lambda: legacy.RMSprop(0.01, momentum=0.9),
    "Adamax": lambda: legacy.Adamax(0.01),
    "Nadam": lambda: legacy.Nadam(0.01),
    "Adadelta": lambda: legacy.Adadelta(1.0),
    "Ftrl": lambda: legacy.Ftrl(0.1),
}
REFUSED = list(OPTIMIZERS)[6:]


def build(make, sparse=True):
    tf_keras.utils.set_random_seed(1)
    inputs = tf_keras.Input((FEATURES,), sparse=sparse)
    hidden = layers.Dense(8, activation="relu", name="hidden")(inputs)
    model = tf_keras.Model(inputs, layers.Dense(2, name="last")(hidden))
    model.compile(make(), "mse")
    return model


def train(model, sparse=True):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((32, FEATURES)).astype("float32")
    x *= x > 1.2
    y = generator.standard_normal((32, 2)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(x) if sparse else x, y)).batch(8)
    model.fit(data, epochs=3, verbose=0)
    with rewriter.standard_form(model):
        return model.get_weights()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in REFUSED])
def test_what_moves_all_rows_anyway_is_kept(name):
    """Its sums are taken in another order, so to rounding."""
    model = build(OPTIMIZERS[name])
    rewriter.rewrite(model, optimizer="keep")
    for ours, theirs in zip(train(model), train(build(OPTIMIZERS[name])), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_moves_touched_rows_alone_is_refused_for_that_layer(name):
    model, plain = build(OPTIMIZERS[name]), build(OPTIMIZERS[name])
    with pytest.raises(rewriter.OptimizerError, match=r"^hidden reads a sparse tensor.*exclude='hidden'"):
        rewriter.rewrite(model, optimizer="keep")
    rewriter.rewrite(model, optimizer="keep", exclude="hidden")
    assert [found.path for found in rewriter.merged_layers(model)] == ["last"]
    for ours, theirs in zip(train(model), train(plain), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", REFUSED)
def test_of_dense_inputs_it_is_kept(name):
    model, plain = (build(OPTIMIZERS[name], sparse=False) for _ in range(2))
    rewriter.rewrite(model, optimizer="keep")
    for ours, theirs in zip(train(model, sparse=False), train(plain, sparse=False), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_so_is_one_beside_the_models_own():
    """A loop's own optimizer, which would follow the weights."""
    model, own = build(OPTIMIZERS["current SGD"]), OPTIMIZERS["SGD with momentum"]()
    own.apply_gradients([(tf.ones_like(each), each) for each in model.trainable_variables])
    with pytest.raises(rewriter.OptimizerError, match=r"^hidden reads a sparse tensor"):
        rewriter.rewrite(model, optimizer="keep")
    assert not rewriter.is_rewritten(model)
