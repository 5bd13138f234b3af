"""Rewrite models of Keras 3 on one backend, train on and split; print what became of them.

The backend is that of ``KERAS_BACKEND``, given as the first argument, as it is chosen when Keras is imported.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from keras import layers

import rewriter.keras3
from arrays import digest

FOLDER = sys.argv[2]
ROWS, OUT = 24, 3


def sequential(shape, *inner):
    return keras.Sequential([keras.Input(shape), *inner, layers.Dense(OUT)])


@keras.saving.register_keras_serializable()
class Subclassed(keras.Model):
    """Layers in a list, in a dict and as an attribute."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(6, activation="tanh"), layers.Dense(6)]
        self.heads = {"first": layers.Dense(OUT)}
        self.norm = layers.LayerNormalization()

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.heads["first"](self.norm(inputs))


def attention():
    inputs = keras.Input((6, 8))
    outputs = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(OUT)(layers.GlobalAveragePooling1D()(inputs + outputs)))


def shared():
    inner = sequential((5,), layers.Dense(4, kernel_regularizer="l2", bias_constraint="non_neg"))
    inputs = keras.Input((5,))
    outputs = layers.Dense(5, dtype="mixed_bfloat16")(inner(inputs))
    return keras.Model(inputs, inner(outputs))


MODELS = {
    "subclassed": (Subclassed, (5,)),
    "shared": (shared, (5,)),
    "attention": (attention, (6, 8)),
    "convolutions": (
        lambda: sequential((8, 8, 2), layers.Conv2D(4, 3), layers.DepthwiseConv2D(3), layers.Flatten()),
        (8, 8, 2),
    ),
    "recurrent": (
        lambda: sequential((6, 4), layers.Bidirectional(layers.GRU(4))),
        (6, 4),
    ),
}


def data(shape):
    generator = np.random.default_rng(3)
    return [generator.standard_normal((ROWS, *each)).astype("float32") for each in (shape, (OUT,))]


def kept(name, rewritten):
    """Train with Adam, through a file, plain or rewritten before and split after; return all that it is then."""
    make, shape = MODELS[name]
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    model, (x, y) = make(), data(shape)
    model.compile(keras.optimizers.Adam(0.01, weight_decay=0.1), "mse")
    fitting = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, **fitting)
    merged, outputs = [], [digest(model.predict(x, verbose=0))]
    if rewritten:
        rewriter.keras3.rewrite(model, optimizer="keep", layers="all")
        merged = [each.path for each in model.trainable_variables if rewriter.keras3.layout_of(each) is not None]
        outputs = [digest(model.predict(x, verbose=0))]
    model.fit(x, y, **fitting)
    path = f"{FOLDER}/{name}.keras"
    model.save(path)
    model = keras.saving.load_model(path)
    if rewritten:
        rewriter.keras3.split(model)
    model.fit(x, y, **fitting)
    paths = [each.path for each in (*model.variables, *model.optimizer.variables)]
    numbers = [keras.ops.convert_to_numpy(each) for each in (*model.variables, *model.optimizer.variables)]
    return {"outputs": outputs, "paths": paths}, [np.float64(each) for each in numbers], len(merged)


def joint():
    """The largest error of joint momentum after 20 steps, over NumPy in float64."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    model, (x, y) = sequential((5,), layers.Dense(7, activation="tanh")), data((5,))
    first, last = (
        np.vstack([np.float64(each) for each in pair]) for pair in zip(*[iter(model.get_weights())] * 2, strict=True)
    )
    model.compile("sgd", "mse")
    rewriter.keras3.rewrite(model, rewriter.keras3.JointMomentum(0.05, 0.9))
    model.compile(model.optimizer, "mse")
    model.fit(x, y, batch_size=ROWS, epochs=20, verbose=0)
    momenta, rate = [0.0, 0.0], float(np.float32(0.05))
    for _ in range(20):
        hidden = np.tanh(x @ first[:-1] + first[-1])
        upstream = 2 * (hidden @ last[:-1] + last[-1] - y) / y.size
        below = (upstream @ last[:-1].T) * (1 - hidden**2)
        gradients = [
            np.vstack([inputs.T @ flowing, flowing.sum(axis=0)])
            for inputs, flowing in ((np.float64(x), below), (hidden, upstream))
        ]
        first, last = (
            kernel - rate * (gradient + 0.9 * momentum)
            for kernel, gradient, momentum in zip((first, last), gradients, momenta, strict=True)
        )
        momenta = [gradient.mean(axis=0) + 0.9 * each for gradient, each in zip(gradients, momenta, strict=True)]
    kernels = [keras.ops.convert_to_numpy(each.augmented_kernel) for each in model.layers]
    return max(float(np.abs(one - other).max()) for one, other in zip(kernels, (first, last), strict=True))


results = {}
for name in MODELS:
    (said, plain, _), (said_rewritten, rewritten, merged) = kept(name, False), kept(name, True)
    difference = max(float(np.abs(one - other).max(initial=0)) for one, other in zip(plain, rewritten, strict=True))
    results[name] = {"same": said == said_rewritten, "difference": difference, "merged": merged}
print(json.dumps({"backend": keras.config.backend(), "models": results, "joint": joint()}))
