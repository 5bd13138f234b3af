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
# Which layers are in the model, how the rule is made, and how many batches a step has.
CASES = {
    "all": ([*LAYERS], Asking, 1),
    "all, reduced": ([*LAYERS], lambda: Asking(reduce=True), 1),
    "every other step": (["dense"], lambda: Asking(every=2), 1),
    "accumulated": (["dense"], lambda: Asking(gradient_accumulation_steps=2), 2),
    "accumulated, every other step": (["dense"], lambda: Asking(every=2, gradient_accumulation_steps=2), 2),
    "loss_scale_factor": (["dense"], lambda: Asking(loss_scale_factor=64.0), 1),
    "LossScaleOptimizer": (
        ["dense"],
        lambda: keras.optimizers.LossScaleOptimizer(Asking(), initial_scale=256.0, dynamic_growth_steps=2),
        1,
    ),
}


class Side(keras.Model):
    """Layers side by side, each with an input of its own, and one that reads what all of them give.

    Args:
        names: Which of ``LAYERS``.
        by_name: Whether they are called by the name of their input.
    """

    def __init__(self, names, by_name=False):
        super().__init__()
        self.sides = [LAYERS[name][0]() for name in names]
        self.head = layers.Dense(2)
        self.by_name = by_name

    def call(self, inputs):
        pairs = zip(self.sides, inputs, strict=True)
        results = [side(inputs=each) if self.by_name else side(each) for side, each in pairs]
        flat = [keras.ops.reshape(each, (-1, int(np.prod(each.shape[1:])))) for each in results]
        return self.head(keras.ops.concatenate(flat, axis=1))


def made(names, inputs, **options):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    model = Side(names, **options)
    model([keras.ops.convert_to_tensor(each) for each in inputs])
    return model


def flowing_back(plain, inputs, y):
    """The gradients of the mean square by the results of the layers before their tanh."""
    hidden = [np.float64(keras.ops.convert_to_numpy(side(x))) for side, x in zip(plain.sides, inputs, strict=True)]
    kernel, bias = (np.float64(each) for each in plain.head.get_weights())
    flat = np.concatenate([each.reshape(len(y), -1) for each in hidden], axis=1)
    of_flat = 2 * (flat @ kernel + bias - y) / y.size @ kernel.T
    parts = np.split(of_flat, np.cumsum([each[0].size for each in hidden])[:-1], axis=1)
    return [part.reshape(each.shape) * (1 - each**2) for part, each in zip(parts, hidden, strict=True)]


def furthest(found, expected):
    return float(max(np.abs(found[each] - expected[each]).max() / np.abs(expected[each]).max() for each in NAMES))


def found_by(model, layer):
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    kernel = layer.augmented_kernel
    return {each: np.float64(keras.ops.convert_to_numpy(inner.statistic(each, kernel))) for each in NAMES}


def errors_of(case, way):
    names, rule, batches = CASES[case]
    make = [LAYERS[name][1] for name in names]
    model, plain = (made(names, [each() for each in make]) for _ in range(2))
    rewriter.rewrite(model, rule(), layers="all", check=False)
    model.compile(model.optimizer, "mse", **WAYS[way])
    asked = getattr(model.optimizer, "inner_optimizer", model.optimizer).statistics["input_moment"]
    expected = [Moments(reduced=asked.reduce) for _ in names]
    for step in range(4):
        for batch in range(batches):
            inputs, y = [each() for each in make], numbers(ROWS, 2)
            flowing = flowing_back(plain, inputs, y)
            for name, x, back, moments in zip(names, inputs, flowing, expected, strict=True):
                _, _, read, of_examples = LAYERS[name]
                positions = read(x)
                moments.decay = 0.5 if batch == 0 else 1.0
                if step % asked.every == 0:
                    calls = [(positions, back.reshape(*positions.shape[:2], -1))]
                    moments.add(calls, counted=ROWS if of_examples else None)
            model.fit(inputs, y, batch_size=ROWS, verbose=0)
        model.evaluate(inputs, y, verbose=0)
    of_sides = zip(names, model.sides, expected, strict=True)
    return {name: furthest(found_by(model, side), moments.means()) for name, side, moments in of_sides}


def measured_by_name(names):
    """How much else layers tell that are called by the name of their input."""
    inputs, models = [LAYERS[name][1]() for name in names], []
    for by_name in (False, True):
        models.append(model := made(names, inputs, by_name=by_name))
        rewriter.rewrite(model, Asking(), layers="all", check=False)
        model.compile(model.optimizer, "mse")
        model.train_on_batch(inputs, np.zeros((ROWS, 2), "float32"))
    pairs = zip(names, *(model.sides for model in models), strict=True)
    return {
        name: furthest(*(found_by(model, side) for model, side in zip(models, sides, strict=True)))
        for name, *sides in pairs
    }


WAYS = {"compiled": {"jit_compile": sys.argv[1] != "torch"}, "eager": {"run_eagerly": True}}
DONE = {f"{case}, {way}": errors_of(case, way) for case in CASES for way in WAYS if way == "compiled" or case == "all"}
DONE["by name"] = measured_by_name(["dense", "heads", "convolution"])
ERRORS = {f"{case}: {name}": error for case, errors in DONE.items() for name, error in errors.items()}
print(json.dumps({"backend": keras.config.backend(), "errors": ERRORS}))
