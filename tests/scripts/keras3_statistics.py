"""Ask layers of Keras 3 what they have seen in two steps of training; print how far it is from NumPy.

The backend is that of ``KERAS_BACKEND``, given as the first argument, as it is chosen when Keras is imported.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import ml_dtypes
import numpy as np
from keras import layers

import rewriter
from rewriter.core.layout import augmented_kernels

DECAY, ROWS = 0.75, 6
GENERATOR = np.random.default_rng(7)


def numbers(*shape):
    return (GENERATOR.standard_normal(shape) + 1.5).astype("float32")


def summed(values, axes=(-1,), mask=None):
    """Sums over all positions, in the order of the axes of features, and the number of positions."""
    features = [axis % values.ndim for axis in axes]
    positions = [axis for axis in range(values.ndim) if axis not in features]
    count = np.prod([values.shape[axis] for axis in axes])
    flat = np.transpose(np.float64(values), [*positions, *features]).reshape(-1, count)
    counts = np.ones(len(flat)) if mask is None else np.broadcast_to(mask, values.shape[:-1]).reshape(-1)
    return np.append(counts @ flat, counts.sum())


def padded():
    ids = GENERATOR.integers(1, 9, (ROWS, 5))
    ids[:, 3:] = 0
    ids[0] = 0
    return ids


def states(model, x):
    """The mean of the states, with as many of them as there are inputs: all steps return theirs."""
    returned = np.float64(keras.ops.convert_to_numpy(model(x, training=False)))
    of_inputs, of_states = summed(x), summed(returned)
    return np.concatenate([of_inputs[:-1], of_states[:-1] / of_states[-1] * of_inputs[-1], of_inputs[-1:]])


# Layers, an input, and what is seen of it, given the model in standard form.
CASES = {
    "dense": (lambda: [layers.Dense(3)], lambda: numbers(ROWS, 5), lambda _, x: summed(x)),
    "integers": (lambda: [layers.Dense(3)], lambda: GENERATOR.integers(0, 9, (ROWS, 5)), lambda _, x: summed(x)),
    "convolution": (lambda: [layers.Conv2D(3, 2)], lambda: numbers(ROWS, 5, 5, 2), lambda _, x: summed(x)),
    "grouped": (lambda: [layers.Conv1D(4, 2, groups=2)], lambda: numbers(ROWS, 5, 4), lambda _, x: summed(x)),
    "depthwise": (lambda: [layers.DepthwiseConv2D(2)], lambda: numbers(ROWS, 5, 5, 2), lambda _, x: summed(x)),
    "transposed": (lambda: [layers.Conv1DTranspose(4, 2)], lambda: numbers(ROWS, 400, 3), lambda _, x: summed(x)),
    "einsum": (
        lambda: [layers.EinsumDense("abcd,cde->abe", (4, 3), bias_axes="e")],
        lambda: numbers(ROWS, 4, 2, 5),
        lambda _, x: summed(x, (-2, -1)),
    ),
    "masked": (
        lambda: [layers.Embedding(9, 4, mask_zero=True), layers.Dense(3)],
        padded,
        lambda model, x: summed(keras.ops.convert_to_numpy(model.layers[0](x)), mask=x != 0),
    ),
    "recurrent": (
        lambda: [layers.SimpleRNN(3, return_sequences=True)],
        lambda: numbers(ROWS, 5, 4),
        states,
    ),
    "LSTM": (
        lambda: [layers.LSTM(3, return_sequences=True)],
        lambda: numbers(ROWS, 5, 4),
        states,
    ),
    "bfloat16": (
        lambda: [layers.Dense(3, dtype="mixed_bfloat16")],
        lambda: numbers(ROWS, 5),
        lambda _, x: summed(x.astype(ml_dtypes.bfloat16)),
    ),
}


def error(name):
    make, x, seen = CASES[name]
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    batches = [x(), x()]
    model = keras.Sequential([keras.Input(batches[0].shape[1:]), *make()])
    y = np.zeros_like(model.predict(batches[0], verbose=0), "float32")
    model.compile("sgd", "mse", jit_compile=sys.argv[1] == "jax")  # on TensorFlow it takes long
    expected = DECAY * seen(model, batches[0]) + seen(model, batches[1])
    rewriter.rewrite(model, rewriter.keras3.Centered(keras.optimizers.SGD(0.0), decay=DECAY), layers="all")
    for each in batches:
        model.train_on_batch(each, y)
    model.evaluate(batches[0], y, verbose=0)
    merged = (*model.layers, *(getattr(each, "cell", each) for each in model.layers))
    kernel = next(kernel for each in merged for kernel in augmented_kernels(each))
    (statistic,) = kernel._rewriter_statistics
    told = np.float64(keras.ops.convert_to_numpy(statistic))
    # Of the sums only the ratio counts.
    return float(np.abs(told[:-1] / told[-1] - expected[:-1] / expected[-1]).max())


print(json.dumps({"backend": keras.config.backend(), "errors": {name: error(name) for name in CASES}}))
