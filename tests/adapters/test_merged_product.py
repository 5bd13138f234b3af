"""The backward pass of rewritten Dense layers, against NumPy in float64 and the unrewritten model."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from rewriter.adapters.tf_keras.fused.product import _LARGE
from rewriter.model.layer_views import is_exact

LARGE = 400  # fan_in and units of a kernel for which the number of rows decides how dx is made
assert LARGE**2 > _LARGE

SHAPES = {
    "few rows, small": ((3, 5), 4),
    "many rows, small": ((70, 5), 4),
    "few rows, large": ((6, LARGE), LARGE),
    "many rows, large": ((LARGE, LARGE), LARGE),
    "three axes": ((4, 6, 5), 7),
    "three axes, large": ((2, 3, LARGE), LARGE),
}
in_graph_and_xla = pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])


def dense_pair(fan_in, units, dtype="float64", exact=False, **options):
    """A Dense layer in a model, and the same rewritten."""
    models = []
    for _ in range(2):
        tf_keras.utils.set_random_seed(3)
        layer = layers.Dense(units, dtype=dtype, bias_initializer="random_normal", **options)
        models.append(tf_keras.Sequential([tf_keras.Input((fan_in,), dtype=dtype), layer]))
    rewriter.rewrite(models[1], exact=exact)
    return models


def gradients_of(layer, inputs, upstream, xla, static):
    shape = inputs.shape if static else [None, *inputs.shape[1:]]
    signature = [tf.TensorSpec(shape, inputs.dtype), tf.TensorSpec([*shape[:-1], upstream.shape[-1]], inputs.dtype)]

    @tf.function(jit_compile=xla, input_signature=signature)
    def both(inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(outputs * upstream)
        return outputs, *tape.gradient(loss, [inputs, layer.augmented_kernel])

    return [each.numpy() for each in both(inputs, upstream)]


@in_graph_and_xla
@pytest.mark.parametrize("static", [False, True], ids=["open", "static"])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_those_of_numpy(generator, shape, static, xla):
    (*rows, fan_in), units = SHAPES[shape]
    layer = dense_pair(fan_in, units)[1].layers[-1]
    inputs, upstream = generator.standard_normal((*rows, fan_in)), generator.standard_normal((*rows, units))
    found = gradients_of(layer, inputs, upstream, xla, static)

    flat, onto = inputs.reshape(-1, fan_in), upstream.reshape(-1, units)
    kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
    np.testing.assert_allclose(found[0], inputs @ kernel + bias, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found[1], upstream @ kernel.T, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found[2], np.vstack([flat.T @ onto, onto.sum(axis=0)]), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rows", [(3,), (90,), (4, 6)])
def test_outputs_in_a_graph_are_bit_equal(generator, rows, training):
    original, model = dense_pair(37, 11, "float32", activation="relu")
    inputs = tf.constant(generator.standard_normal((*rows, 37)), tf.float32)

    def outputs(layer):
        @tf.function
        def forward(inputs):
            if not training:
                return layer(inputs)
            with tf.GradientTape() as tape:
                outputs = layer(inputs)
                loss = tf.reduce_sum(outputs)
            return outputs, tape.gradient(loss, layer.trainable_variables)

        return (forward(inputs)[0] if training else forward(inputs)).numpy()

    assert bits(outputs(model.layers[-1])) == bits(outputs(original.layers[-1]))


@in_graph_and_xla
@pytest.mark.parametrize("size", [5, LARGE])
def test_gradients_of_gradients(generator, size, xla):
    original, model = dense_pair(size, size, activation="tanh")
    inputs = tf.constant(generator.standard_normal((4, size)))

    def penalty(layer, weights):
        @tf.function(jit_compile=xla)
        def second(inputs):
            with tf.GradientTape() as outer:
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    outputs = tf.reduce_sum(layer(inputs) ** 2)
                loss = tf.reduce_sum(inner.gradient(outputs, inputs) ** 2)
            return outer.gradient(loss, weights)

        return np.vstack([np.reshape(each, (-1, size)) for each in second(inputs)])

    dense, merged = original.layers[-1], model.layers[-1]
    expected = penalty(dense, [dense.kernel, dense.bias])
    found = penalty(merged, [merged.augmented_kernel])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["sparse", "ragged"])
def test_inputs_that_are_no_tensors(generator, kind):
    original, model = dense_pair(5, 4, "float32")
    values = generator.standard_normal((3, 5)).astype("float32")
    inputs = tf.sparse.from_dense(values) if kind == "sparse" else tf.RaggedTensor.from_row_lengths(values, [1, 2])

    def trained(layer):
        @tf.function
        def forward():
            with tf.GradientTape() as tape:
                outputs = layer(inputs)
                loss = tf.reduce_sum(outputs.flat_values if kind == "ragged" else outputs)
            return loss, tape.gradient(loss, layer.trainable_variables)

        loss, gradients = forward()
        stacked = [tf.reshape(tf.convert_to_tensor(each), (-1, 4)) for each in gradients]
        return bits(loss.numpy()), bits(tf.concat(stacked, axis=0))

    assert trained(model.layers[-1]) == trained(original.layers[-1])


def exactness(model):
    return {is_exact(layer) for layer in model._flatten_layers() if hasattr(layer, "augmented_kernel")}


def compiled(optimizer="adam"):
    model = tf_keras.Sequential([layers.Dense(4, activation="relu", input_shape=(5,)), layers.Dense(3)])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize(
    ("optimizer", "exact", "expected"),
    [
        (None, None, False),
        ("keep", None, True),
        (tf_keras.optimizers.Adam, None, True),
        (tf_keras.optimizers.Adam, False, False),
        ("keep", False, False),
        (rewriter.JointMomentum, None, False),
        (None, True, True),
    ],
)
def test_which_layers_are_exact(optimizer, exact, expected):
    given = optimizer() if callable(optimizer) else optimizer
    assert exactness(rewriter.rewrite(compiled(), given, exact=exact)) == {expected}


def test_rewriting_again_changes_whether_layers_are_exact(generator):
    model = rewriter.rewrite(compiled(), "keep")
    x, y = generator.standard_normal((8, 5)), generator.standard_normal((8, 3))
    model.fit(x, y, verbose=0)
    traced = model.train_function
    rewriter.rewrite(model, rewriter.JointMomentum())
    assert exactness(model) == {False}
    assert model.train_function is not traced
    model.fit(x, y, verbose=0)


def test_a_rewrite_that_fails_leaves_layers_as_exact_as_they_were(monkeypatch):
    model = rewriter.rewrite(compiled(), "keep")
    monkeypatch.setattr("rewriter.rewriting.rewrite._transfer_state", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rewriter.rewrite(model, rewriter.JointMomentum())
    assert exactness(model) == {True}


class Hiding(tf_keras.Model):
    """A model whose config does not name its layers."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return {}


@pytest.mark.parametrize("optimizer", ["keep", None])
@pytest.mark.parametrize(
    ("file", "hiding"),
    [("model.keras", False), ("model.h5", False), ("model", False), ("model.keras", True), ("model", True)],
)
def test_files_tell_which_layers_are_exact(tmp_path, file, hiding, optimizer):
    model = compiled()
    if hiding:
        model = Hiding()
        model.compile("adam", "mse")
        model(tf.zeros((2, 5)))
    rewriter.rewrite(model, optimizer)
    rewriter.save_model(model, tmp_path / file)
    loaded = rewriter.load_model(tmp_path / file, custom_objects={"Hiding": Hiding})
    assert exactness(loaded) == {optimizer == "keep"}


@tf_keras.saving.register_keras_serializable("tests")
class Exacting(layers.Dense):
    """A layer with a setting of its own of the same name."""

    def __init__(self, units, exact="very", **options):
        super().__init__(units, **options)
        self.exact = exact

    def get_config(self):
        return {**super().get_config(), "exact": self.exact}


def test_a_setting_of_the_layers_own_is_another(tmp_path):
    model = tf_keras.Sequential([tf_keras.Input((5,)), Exacting(3, exact="hardly", name="exacting")])
    rewriter.rewrite(model)
    assert exactness(model) == {False}
    rewriter.save_model(model, tmp_path / "model.keras")
    loaded = rewriter.load_model(tmp_path / "model.keras")
    assert exactness(loaded) == {False}
    assert loaded.get_layer("exacting").exact == "hardly"


def test_adam_without_exactness_trains_as_adam_does(generator):
    x, y = generator.standard_normal((64, 5)), generator.standard_normal((64, 3))
    results = []
    for rewritten in (False, True):
        tf_keras.utils.set_random_seed(5)
        model = compiled()
        if rewritten:
            rewriter.rewrite(model, "keep", exact=False)
        model.fit(x, y, epochs=5, verbose=0, shuffle=False)
        results.append(model.predict(x, verbose=0))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@in_graph_and_xla
def test_gradients_of_each_example(generator, xla):
    """tf.vectorized_map has a way of its own to trace every operation."""
    original, model = dense_pair(5, 4)
    inputs = tf.constant(generator.standard_normal((6, 5)))

    def of_each(model):
        def one(row):
            with tf.GradientTape() as tape:
                outputs = model(row[tf.newaxis])
                loss = tf.reduce_sum(outputs**2)
            return outputs[0], [tf.convert_to_tensor(each) for each in tape.gradient(loss, model.trainable_variables)]

        outputs, gradients = tf.function(lambda: tf.vectorized_map(one, inputs), jit_compile=xla)()
        return np.hstack([outputs, *(np.reshape(each, (6, -1)) for each in gradients)])

    np.testing.assert_allclose(of_each(model), of_each(original), rtol=1e-11, atol=1e-11)


@in_graph_and_xla
def test_outputs_of_which_some_rows_are_taken(generator, xla):
    """The gradient that comes back is tf.IndexedSlices."""
    original, model = dense_pair(6, 3)
    inputs = tf.constant(generator.standard_normal((5, 6)))

    def gradients(model):
        @tf.function(jit_compile=xla)
        def taken():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.gather(model(inputs), [0, 2]) ** 2)
            return tape.gradient(loss, model.trainable_variables)

        return np.vstack([np.reshape(each, (-1, 3)) for each in taken()])

    np.testing.assert_allclose(gradients(model), gradients(original), rtol=1e-11, atol=1e-11)
