"""Every dtype and policy, and every kind and structure of inputs, goes there and back."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from model_state import merged_layers, state
from models import batch, fit, trained_pair

DTYPES = ["float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_policy(dtype):
    """Outputs, Adam training and the way back are bit-equal in every dtype; W* is stored in the kernel's dtype."""

    def builder():
        return tf_keras.Sequential(
            [
                layers.Dense(16, activation="relu", input_shape=(5,), dtype=dtype, kernel_regularizer="l2"),
                layers.Dense(16, dtype=dtype, kernel_constraint=tf_keras.constraints.MaxNorm(0.5)),
                layers.Dense(3, dtype="float32"),
            ]
        )

    def optimizer():
        adam = tf_keras.optimizers.Adam(0.01, epsilon=1e-3)
        return tf_keras.mixed_precision.LossScaleOptimizer(adam) if dtype == "mixed_float16" else adam

    original, model = trained_pair(builder, optimizer)
    before = state(model)
    stored = model.layers[0].kernel.dtype
    rewriter.rewrite(model, optimizer="keep")
    assert merged_layers(model)[0].augmented_kernel.dtype == stored
    assert bits(model(batch()[0])) == bits(original(batch()[0]))
    rewriter.split(model)
    assert state(model) == before
    rewriter.rewrite(model, optimizer="keep")
    fit(original, epochs=2)
    fit(model, epochs=2)
    rewriter.split(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in original.weights]


@pytest.mark.parametrize("kind", ["ragged", "sparse"])
def test_ragged_and_sparse_inputs(kind):
    """A Dense called on a ragged or sparse tensor computes the same, and its gradient is the same."""
    dense = layers.Dense(4, activation="tanh")
    model = tf_keras.Sequential([tf_keras.Input((5,)), dense])
    x, _ = batch(6)
    inputs = tf.RaggedTensor.from_row_lengths(x, [2, 0, 4]) if kind == "ragged" else tf.sparse.from_dense(x)

    def run(*weights):
        with tf.GradientTape() as tape:
            outputs = dense(inputs)
            flat = outputs.flat_values if kind == "ragged" else outputs
            loss = tf.reduce_sum(flat**2)
        return flat.numpy(), [tf.convert_to_tensor(each).numpy() for each in tape.gradient(loss, weights)]

    outputs, (kernel, bias) = run(dense.kernel, dense.bias)
    rewriter.rewrite(model)
    again, (augmented,) = run(dense.augmented_kernel)
    assert bits(again) == bits(outputs)
    assert bits(augmented) == bits(np.vstack([kernel, bias]))


@pytest.mark.parametrize("container", [dict, list])
def test_many_inputs_and_outputs_in_dicts_and_lists(container):
    """Models that take and give dicts or lists are rewritten like any other."""

    def arrange(first, second):
        return {"a": first, "b": second} if container is dict else [first, second]

    inputs = tf_keras.Input((5,), name="a"), tf_keras.Input((5,), name="b")
    hidden = layers.Dense(4, name="hidden")(inputs[0]) + layers.Dense(4, name="other")(inputs[1])
    outputs = layers.Dense(2, name="x")(hidden), layers.Dense(1, name="y")(hidden)
    model = tf_keras.Model(arrange(*inputs), arrange(*outputs))
    x, _ = batch()
    given = arrange(tf.constant(x), 2 * tf.constant(x))
    before, expected = state(model), model(given)
    rewriter.rewrite(model)
    assert len(merged_layers(model)) == 4
    tf.nest.map_structure(np.testing.assert_array_equal, model(given), expected)
    rewriter.split(model)
    assert state(model) == before
