"""verify tells whether two models are the same function, and where they are not."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from models import MODELS, trained_pair
from rewriter.model.example_inputs import make_inputs
from rewriter.rewriting.comparison import arrays_of, compare, compare_all
from short_cases import cases


@pytest.mark.parametrize(
    "name", cases(MODELS, {"functional", "nested_called_twice", "shared_across_levels", "regularized"})
)
def test_a_model_and_its_rewrite_are_the_same(name):
    """In either order; and neither is changed."""
    original, model = trained_pair(MODELS[name])
    rewriter.rewrite(model)
    classes = [type(layer) for layer in model.layers]
    assert rewriter.verify(original, model).same
    assert rewriter.verify(model, original).same
    assert [type(layer) for layer in model.layers] == classes


def test_models_that_take_different_inputs_are_said_to():
    """And not what Keras raises of them."""
    images = tf_keras.Sequential([layers.Input((4, 4, 1), name="image"), layers.Flatten(), layers.Dense(2)])
    given = {"text": layers.Input((3,), name="text"), "meta": layers.Input((2,), name="meta")}
    texts = tf_keras.Model(given, layers.Dense(2)(layers.Concatenate()([*given.values()])))
    report = rewriter.verify(images, texts)
    assert report.note == ("outputs not compared: the models take different inputs: image 4x4x1 and meta 2, text 3")


def test_outputs_that_are_all_nan_are_not_compared(caplog):
    """NaN is equal to itself, and would prove anything."""
    model, other = (tf_keras.Sequential([layers.Dense(3, input_shape=(2,))]) for _ in range(2))
    batch = np.full((4, 2), np.nan, "float32")
    report = rewriter.verify(model, other, batch)
    assert "outputs not compared: the first model gives nothing but NaN on this batch" in report.note
    assert report.outputs == 0
    rewriter.rewrite(model, inputs=batch)
    assert "not compared: the model gives nothing but NaN on this batch" in caplog.text


def test_a_layer_that_computes_in_another_dtype_is_named():
    """The same weights, read under another policy: outputs differ, and the reason is said."""
    dense, halves = (
        tf_keras.Sequential(
            [layers.Dense(9, input_shape=(5,), name="first"), layers.Dense(3, name="last", dtype=policy)]
        )
        for policy in ("float32", "mixed_float16")
    )
    halves.set_weights(dense.get_weights())
    report = rewriter.verify(dense, halves)
    assert not report.same
    assert report.note == "last computes in float32 in the first model and in float16 in the second"
    assert str(report).endswith(report.note)


@pytest.mark.parametrize("row", [0, -1], ids=["kernel", "bias"])
def test_one_bit_is_seen(row):
    """The last bit of one number in one layer is found, and the layer and the weight are named."""
    original, model = trained_pair(MODELS["nested"])
    rewriter.rewrite(model)
    variable = model.get_layer("last").augmented_kernel
    value = variable.numpy()
    value.view("int32")[row, 0] ^= 1
    variable.assign(value)
    report = rewriter.verify(original, model)
    assert not report.same
    path, what = report.differing[0].path, report.differing[0].what
    assert (path, what) == ("last", "kernel" if row == 0 else "bias")
    assert "last" in str(report)
    assert str(report).endswith("different: 1 of 6 weights, 0 of 4 outputs")


def test_another_architecture_is_not_the_same():
    """Layers that only one model has are named."""
    report = rewriter.verify(MODELS["functional"](), MODELS["nested"]())
    assert not report.same
    data = report.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert not data["same"]


def test_another_activation_is_not_the_same():
    """Equal weights are not enough: the outputs tell."""
    models = []
    for activation in ("relu", "tanh"):
        tf_keras.utils.set_random_seed(1)
        models.append(tf_keras.Sequential([layers.Dense(4, activation, input_shape=(3,), name="d")]))
    report = rewriter.verify(*models)
    assert [(one.path, one.what) for one in report.differing] == [("d", "outputs"), ("model", "outputs")]


def test_compare_knows_bits_rounding_and_nan():
    """Bit equality, differences that rounding explains and those it does not; NaN equals NaN, zero is signed."""
    ones = tf.ones(3)
    assert compare(ones, ones).identical
    assert compare([float("nan")], [float("nan")]).identical
    assert not compare([0.0], [-0.0]).identical
    assert compare(ones, ones + 1e-7).explained
    assert not compare(ones, ones + 1e-4).explained
    assert not compare(ones, tf.ones(3, tf.float64)).explained
    assert not compare([1.0, float("nan")], [float("nan"), 1.0]).explained
    assert not compare([1.0], [float("inf")]).explained
    assert not compare(tf.ones(3, tf.bfloat16), tf.ones(3, tf.bfloat16) * 1.5).explained
    assert not compare_all([ones], [ones, ones]).explained
    assert compare_all([ones], [ones]).identical
    texts = [tf.constant(["a", "b"]), tf.constant(["a", "b"]), tf.constant(["a", "c"])]
    assert compare(*texts[:2]).identical
    assert not compare(*texts[1:]).explained
    ragged, distribution = tf.ragged.constant([[1.0], [2.0, 3.0]]), object()
    assert [array.tolist() for array in arrays_of({"a": ones, "b": (ragged, distribution)})] == [[1] * 3, [1, 2, 3]]


class Noise(layers.Layer):
    """Adds random numbers, in inference too."""

    def call(self, inputs):
        return inputs + tf.random.normal(tf.shape(inputs))


def test_a_model_that_draws_random_numbers_is_compared_by_its_weights():
    """Its outputs differ from themselves, and say nothing; the note says so."""
    model = tf_keras.Sequential([tf_keras.Input((5,)), layers.Dense(4), Noise(), layers.Dense(3)])
    report = rewriter.verify(model, rewriter.rewrite(model))
    assert report.same
    assert report.note == "outputs not compared: the model draws random numbers, and differs from itself"


def test_comparing_changes_no_state():
    """What a model remembers from one batch to the next is put back: in verify, and in the check of a rewrite."""
    model = tf_keras.Sequential(
        [
            tf_keras.Input((3, 2), batch_size=4),
            layers.GRU(5, stateful=True),
            layers.BatchNormalization(),
            layers.Dense(3),
        ]
    )
    model(tf.ones((4, 3, 2)), training=True)
    remembered = [state.numpy().tobytes() for state in (*model.layers[0].states, *model.non_trainable_variables)]
    rewriter.rewrite(model)
    assert rewriter.verify(model, model).same
    now = [state.numpy().tobytes() for state in (*model.layers[0].states, *model.non_trainable_variables)]
    assert now == remembered
    assert np.any(model.layers[0].states[0].numpy())


def test_whole_numbers_are_looked_up():
    """A model that starts with an embedding is compared on rows that differ, and not only on the one of zero."""

    def tagger(rows):
        model = tf_keras.Sequential(
            [
                tf_keras.layers.Embedding(rows, 4, input_length=5, mask_zero=True),
                tf_keras.layers.LSTM(3),
                tf_keras.layers.Dense(2),
            ]
        )
        model.build()
        return model

    for rows in (1, 3, 100):
        model = tagger(rows)
        other = tf_keras.models.clone_model(model)
        other.set_weights(model.get_weights())
        assert rewriter.verify(model, other).same
        indices = make_inputs(model).numpy()
        assert set(np.unique(indices)) == set(range(min(rows, 4)))
        if rows > 1:
            table = other.layers[0].embeddings
            table.assign(table.numpy() + (np.arange(rows) > 0)[:, None])
            differing = {each.path for each in rewriter.verify(model, other).differing if each.what == "outputs"}
            assert "model" in differing
