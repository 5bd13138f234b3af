"""Train on two mirrored devices of TensorFlow; print how far that is from one, and whether the copies are the same."""

import contextlib
import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import rewriter

devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
# One, as two count what they reduce alike, and TensorFlow would take the shapes of one for those of the other.
STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
GENERATOR = np.random.default_rng(0)
X, Y = (GENERATOR.normal(mean, 1, (32, 8)).astype("float32") for mean in (2, 0))


def sgd():
    return keras.optimizers.SGD(0.01, 0.9)


def adam():
    return keras.optimizers.Adam(0.01)


def train(compiled, optimizer, mirrored):
    with STRATEGY.scope() if mirrored else contextlib.nullcontext():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="tanh"), layers.Dense(8)])
        model.compile(compiled(), "mse", jit_compile=False)
    fitting = {"batch_size": 16, "shuffle": False, "verbose": 0, "epochs": 2}
    model.fit(X, Y, **fitting)
    rewriter.rewrite(model, optimizer)  # outside of the scope
    model.fit(X, Y, **fitting)
    held = [each.value.values for each in (*model.variables, *model.optimizer.variables)] if mirrored else []
    alike = all(np.array_equal(*(copy.numpy() for copy in copies)) for copies in held)
    rewriter.split(model)
    return [each.numpy() for each in model.trainable_variables], alike


WAYS = {
    "keep": (sgd, "keep"),
    "joint": (sgd, None),
    "centered": (sgd, "centered"),
    "centered, Adam": (adam, "centered"),
    "KFAC": (sgd, "KFAC"),
    "QuasiDiagonal": (sgd, "QuasiDiagonal"),
}
errors, same = {}, {}
for name, way in WAYS.items():
    (alone, _), (together, same[name]) = train(*way, False), train(*way, True)
    errors[name] = max(float(np.abs(one - other).max()) for one, other in zip(alone, together, strict=True))
print(json.dumps({"backend": keras.config.backend(), "errors": errors, "same": same}))
