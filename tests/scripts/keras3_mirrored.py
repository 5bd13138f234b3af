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
GENERATOR = np.random.default_rng(0)
X, Y = (GENERATOR.normal(mean, 1, (32, 8)).astype("float32") for mean in (2, 0))


def train(optimizer, mirrored):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if mirrored else None
    with strategy.scope() if mirrored else contextlib.nullcontext():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="tanh"), layers.Dense(8)])
        model.compile(keras.optimizers.SGD(0.01, 0.9), "mse", jit_compile=False)
    fitting = {"batch_size": 16, "shuffle": False, "verbose": 0}
    model.fit(X, Y, **fitting)
    rewriter.rewrite(model, optimizer)  # outside of the scope
    model.fit(X, Y, **fitting)
    copies = [[copy.numpy() for copy in each.value.values] for each in model.trainable_variables] if mirrored else []
    rewriter.split(model)
    return [each.numpy() for each in model.trainable_variables], all(np.array_equal(*pair) for pair in copies)


errors, same = {}, []
for name, optimizer in (("keep", "keep"), ("joint", None)):
    (alone, _), (together, alike) = train(optimizer, False), train(optimizer, True)
    errors[name] = max(float(np.abs(one - other).max()) for one, other in zip(alone, together, strict=True))
    same.append(alike)
try:
    train("centered", True)
except rewriter.OptimizerError as error:
    refused = str(error)
print(json.dumps({"backend": keras.config.backend(), "errors": errors, "same": same, "refused": refused}))
