"""Train on eight devices that JAX simulates, laid out in several ways; print how far that is from one device."""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import keras
import numpy as np
from keras import distribution, layers

import rewriter

GENERATOR = np.random.default_rng(0)
X, Y = (GENERATOR.normal(mean, 1, (64, 8)).astype("float32") for mean in (2, 0))
# What a user's map names, and how: kernels of 8 by 16 and 16 by 8 over four devices.
MAPS = {
    "all kernels": {".*kernel": (None, "model"), ".*bias": ("model",)},
    "one layer": {".*last/kernel|.*last/augmented_kernel": (None, "model")},
    "rows": {".*kernel": ("model", None)},
}


def lay_out(how):
    devices = distribution.list_devices()
    assert len(devices) == 8
    if how == "data":
        return distribution.DataParallel(devices=devices)
    mesh = distribution.DeviceMesh((2, 4), ["batch", "model"], devices)
    layout_map = distribution.LayoutMap(mesh)
    layout_map.update(MAPS[how])
    return distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch")


def train(way, how=None):
    keras.utils.clear_session(free_memory=False)
    distribution.set_distribution(None if how is None else lay_out(how))
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="tanh"), layers.Dense(8, name="last")])
    model.compile(keras.optimizers.SGD(0.01, 0.9), "mse")
    fitting = {"batch_size": 32, "shuffle": False, "verbose": 0}
    model.fit(X, Y, **fitting)
    rewriter.rewrite(model, None if way == "joint" else way)
    model.fit(X, Y, **fitting)
    kernels = [each.augmented_kernel.value for each in model.layers]
    specs = [[*getattr(kernel.sharding, "spec", ())] for kernel in kernels]
    rewriter.split(model)
    model.fit(X, Y, **fitting)
    return [np.asarray(each.value) for each in model.trainable_variables], specs


expected = {way: train(way)[0] for way in ("centered", "joint")}
said = {}
for way, how in (
    ("joint", "data"),
    ("centered", "all kernels"),
    ("joint", "one layer"),
    ("centered", "rows"),
):
    weights, specs = train(way, how)
    error = max(float(np.abs(one - other).max()) for one, other in zip(weights, expected[way], strict=True))
    said[f"{way}, {how}"] = [error, specs]
print(json.dumps({"backend": keras.config.backend(), "ways": said}))
