"""Ask layers of Keras 3 what they read and what flows back in three steps of training; print how far it is from NumPy.

The backend is that of ``KERAS_BACKEND``, given as the first argument, as it is chosen when Keras is imported.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from keras import layers
from numpy.lib.stride_tricks import sliding_window_view

import rewriter.keras3
from moments_oracle import Moments

NAMES = ("input_moment", "output_moment", "unit_moments")
GENERATOR = np.random.default_rng(5)
ROWS = 6


class Asking(rewriter.keras3.JointOptimizer):
    """Moves nothing, and asks for everything."""

    def __init__(self, learning_rate=0.0, every=1, reduce=False, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.statistics = dict.fromkeys(NAMES, rewriter.keras3.RunningMean(0.5, every, reduce))

    def update_layer(self, gradient, variable, layout):
        del layout
        variable.assign_sub(0 * gradient)


def numbers(*shape):
    return GENERATOR.normal(0.5, 1.0, shape).astype("float32")


def as_positions(x):
    return x.reshape(len(x), -1, x.shape[-1])


def windows(x):
    found = np.transpose(sliding_window_view(x, (2, 2), (1, 2)), (0, 1, 2, 4, 5, 3))
    return found.reshape(len(x), -1, 4 * x.shape[-1])


def causal(x):
    padded = np.pad(x, ((0, 0), (2, 0), (0, 0)))
    return np.concatenate([padded[:, :-2], padded[:, 2:]], axis=2)


# A layer, its input, what its kernel rows read, and whether the loss counts examples and not positions.
LAYERS = {
    "dense": (lambda: layers.Dense(3, "tanh"), lambda: numbers(ROWS, 5), as_positions, False),
    "positions": (lambda: layers.Dense(3, "tanh"), lambda: numbers(ROWS, 2, 4, 5), as_positions, False),
    "einsum": (
        lambda: layers.EinsumDense("abcd,cde->abe", (4, 3), activation="tanh", bias_axes="e"),
        lambda: numbers(ROWS, 4, 2, 5),
        lambda x: x.reshape(len(x), 4, 10),
        False,
    ),
    "heads": (
        lambda: layers.EinsumDense("abc,cde->abde", (4, 2, 3), activation="tanh", bias_axes="de"),
        lambda: numbers(ROWS, 4, 5),
        as_positions,
        False,
    ),
    "convolution": (lambda: layers.Conv2D(3, 2, activation="tanh"), lambda: numbers(ROWS, 4, 5, 2), windows, True),
    "causal": (
        lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2, activation="tanh"),
        lambda: numbers(ROWS, 5, 2),
        causal,
        True,
    ),
}
# A layer, how the rule is made, and how many batches a step has.
CASES = {name: (name, Asking, 1) for name in LAYERS}
CASES |= {f"{name}, reduced": (name, lambda: Asking(reduce=True), 1) for name in ("positions", "heads", "convolution")}
CASES |= {
    "every other step": ("dense", lambda: Asking(every=2), 1),
    "accumulated": ("dense", lambda: Asking(gradient_accumulation_steps=2), 2),
    "accumulated, every other step": ("dense", lambda: Asking(every=2, gradient_accumulation_steps=2), 2),
    "loss_scale_factor": ("dense", lambda: Asking(loss_scale_factor=64.0), 1),
    "LossScaleOptimizer": (
        "dense",
        lambda: keras.optimizers.LossScaleOptimizer(Asking(), initial_scale=256.0, dynamic_growth_steps=2),
        1,
    ),
}


class CallsByName(keras.Model):
    """Gives its layer the input by its name."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs=inputs)


def measured_by_name(name):
    """Whether a layer that is called by the name of its input tells as much as one that is not."""
    make, inputs, _, _ = LAYERS[name]
    x, found = inputs(), []
    for wrap in (lambda layer: keras.Sequential([layer]), CallsByName):
        keras.utils.set_random_seed(3)
        model = wrap(make())
        y = np.zeros(model(x).shape, "float32")
        rewriter.rewrite(model, Asking(), layers="all", check=False)
        model.compile(model.optimizer, "mse")
        model.train_on_batch(x, y)
        kernel = model.layers[0].augmented_kernel
        found.append([keras.ops.convert_to_numpy(model.optimizer.statistic(each, kernel)) for each in NAMES])
    return float(max(np.abs(one - other).max() / np.abs(one).max() for one, other in zip(*found, strict=True)))


WAYS = {"compiled": {"jit_compile": sys.argv[1] != "torch"}, "eager": {"run_eagerly": True}}


def around(make, x):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(make()(inputs))))


def flowing_back(plain, x, y):
    """The gradient of the mean square by the results of the layer before its tanh."""
    hidden = np.float64(keras.ops.convert_to_numpy(plain.layers[1](x)))
    kernel, bias = (np.float64(each) for each in plain.layers[-1].get_weights())
    flat = hidden.reshape(len(x), -1)
    of_flat = 2 * (flat @ kernel + bias - y) / y.size @ kernel.T
    return of_flat.reshape(hidden.shape) * (1 - hidden**2)


def error(name, way):
    layer, rule, batches = CASES[name]
    make, inputs, read, of_examples = LAYERS[layer]
    x = inputs()
    model, plain = around(make, x), around(make, x)
    rewriter.rewrite(model, rule(), layers="all", check=False)
    model.compile(model.optimizer, "mse", **WAYS[way])
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    expected = Moments(reduced=inner.statistics["input_moment"].reduce)
    for step in range(4):
        measured = step % inner.statistics["input_moment"].every == 0
        for batch in range(batches):
            x, y = inputs(), numbers(ROWS, 2)
            back, positions = flowing_back(plain, x, y), read(x)
            expected.decay = 0.5 if batch == 0 else 1.0
            if measured:
                back = back.reshape(*positions.shape[:2], -1)
                expected.add([(positions, back)], counted=ROWS if of_examples else None)
            model.fit(x, y, batch_size=ROWS, verbose=0)
        model.evaluate(x, y, verbose=0)
    kernel, means = model.layers[1].augmented_kernel, expected.means()
    found = {each: np.float64(keras.ops.convert_to_numpy(inner.statistic(each, kernel))) for each in NAMES}
    return float(max(np.abs(found[each] - means[each]).max() / np.abs(means[each]).max() for each in NAMES))


ERRORS = {f"{name}, {way}": error(name, way) for name in CASES for way in WAYS if way == "compiled" or name in LAYERS}
ERRORS |= {f"{name}, by name": measured_by_name(name) for name in ("dense", "heads", "convolution")}
print(json.dumps({"backend": keras.config.backend(), "errors": ERRORS}))
