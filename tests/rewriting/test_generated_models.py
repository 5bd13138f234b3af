"""Properties that hold for every model: hypothesis makes them up from the kinds and settings there are."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tf_keras import layers

import rewriter
from arrays import bits
from models import fit

DENSE = st.fixed_dictionaries(
    {
        "units": st.integers(1, 5),
        "activation": st.sampled_from([None, "relu", "tanh"]),
        "use_bias": st.booleans() | st.just(True),
        "kernel_regularizer": st.sampled_from([None, "l2"]),
        "bias_regularizer": st.sampled_from([None, "l1"]),
        "kernel_constraint": st.sampled_from([None, "unit_norm"]),
        "bias_constraint": st.sampled_from([None, "max_norm"]),
        "trainable": st.booleans() | st.just(True),
        "dtype": st.sampled_from(["float32", "float64", "mixed_bfloat16"]),
    }
)
# How a layer stands in the model: by itself, in a nested model, in a wrapper, called twice, in a custom layer's list.
PLACES = st.sampled_from(["plain", "nested", "twice", "wrapped", "listed"])
ARCHITECTURES = st.lists(st.tuples(PLACES, DENSE), min_size=1, max_size=4)


class Listed(layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = [inner]

    def call(self, inputs):
        return self.inner[0](inputs)


def place(kind, options, x):
    dense = layers.Dense(**options)
    if kind == "nested":
        return tf_keras.Sequential([tf_keras.Input(x.shape[1:]), dense])(x)
    if kind == "twice":
        square = layers.Dense(**{**options, "units": x.shape[-1]})
        return square(square(x))
    if kind == "wrapped":
        return layers.Flatten()(layers.TimeDistributed(dense)(layers.Reshape((x.shape[-1], 1))(x)))
    return Listed(dense)(x) if kind == "listed" else dense(x)


def build(architecture):
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(2)
    inputs = tf_keras.Input((5,))
    x = inputs
    for kind, options in architecture:
        x = place(kind, options, x)
    model = tf_keras.Model(inputs, layers.Dense(3, use_bias=False, dtype="float32")(x))
    model.compile(tf_keras.optimizers.Adam(0.01), "mse")
    return model


@pytest.fixture(autouse=True)
def _sums_as_written():
    # Where a layer is called twice and regularized, three gradients are summed, and TensorFlow's graph optimizer
    # re-associates such sums by what else is in the graph. With it off, or eagerly, they are bit-equal.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    yield
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})


def state(model):
    return [(weight.name, bits(weight.numpy())) for weight in model.weights]


# Each example trains; shrinking a failure would take longer than reading it.
@pytest.mark.slow
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(ARCHITECTURES)
def test_rewriting_any_model_changes_nothing_but_its_form(architecture):
    """Every pair merges; outputs and Adam are bit-equal; the split gives back names, order and bits."""
    original, model = build(architecture), build(architecture)
    pairs = [kind for kind, options in architecture if options["use_bias"]]
    x = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")
    before, outputs = state(model), bits(model(x))
    assert len(rewriter.plan(model).merges) == len(pairs)
    if not pairs:
        return
    rewriter.rewrite(model, optimizer="keep", strict=True)
    assert bits(model(x)) == outputs
    rewriter.split(model)
    assert state(model) == before
    rewriter.rewrite(model, optimizer="keep")
    if original.trainable_weights:
        fit(original)
        fit(model)
    rewriter.split(model)
    assert state(model) == state(original)
