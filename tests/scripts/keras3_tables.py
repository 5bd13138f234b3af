"""Models of the tables, read for Keras 3, on one backend: plain, and rewritten, through a file and split.

The tables are those of the tests of tf-keras: each name of it means Keras 3 while they are read.
"""

import contextlib
import importlib
import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np

import rewriter

sys.modules["tf_keras"] = keras
tables = [importlib.import_module(name) for name in ("models", "family_models", "zoo")]
del sys.modules["tf_keras"]
EVERY = {**tables[0].MODELS, **tables[1].FAMILIES, **tables[2].ZOO}
# Keras 3 takes no slash in a name.
LEFT_OUT = {"odd_names"}
if keras.config.backend() == "torch":
    LEFT_OUT |= {"discretized"}  # that layer computes with TensorFlow
if keras.config.backend() == "jax":  # where each model takes seconds to compile, and all of them minutes
    LEFT_OUT |= EVERY.keys() - {
        "shared_across_levels",
        "regularized",
        "constrained",
        "partly_frozen",
        "conv_regularized",
        "einsum",
        "custom_layer",
        "deep_containers",
        "repeated_names",
        "own_functional",
    }
X, Y = tables[0].batch()
PATHS = [f"{sys.argv[2]}/{name}.keras" for name in ("plain", "rewritten")]
# A layer that Keras has not been told of, and one of which its format leaves out weights, which rewriter refuses.
NOT_SAVED = (TypeError, rewriter.FileError)


def train(model):
    """Make one step for each batch."""
    for start in range(0, len(X), 8):
        model.train_on_batch(X[start : start + 8], Y[start : start + 8])


def numbers(*variables):
    return [np.float64(keras.ops.convert_to_numpy(each)) for each in variables]


def made(builder):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    model = builder()
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=keras.config.backend() != "jax")
    train(model)
    return model


def loaded(path):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(2)
    return keras.saving.load_model(path)


def largest(ones, others):
    assert len(ones) == len(others)
    return max(float(np.abs(one - other).max(initial=0)) for one, other in zip(ones, others, strict=True))


def differences(builder):
    """How far a rewritten model is from a plain one: outputs, losses, and all state after training and from a file."""
    plain, model = made(builder), made(builder)
    rewriter.rewrite(model, "keep", layers="all", check=False)
    merged = len(rewriter.plan(model, layers="all").merged)
    outputs = largest(numbers(plain(X)), numbers(model(X)))
    losses = abs(float(sum(plain.losses)) - float(sum(model.losses)))
    train(plain)
    train(model)
    with contextlib.suppress(*NOT_SAVED):
        rewriter.save_model(model, PATHS[1], overwrite=True)
        plain.save(PATHS[0])
        plain, model = map(loaded, PATHS)
    rewriter.split(model)
    ones, others = ([*each.variables, *each.optimizer.variables] for each in (plain, model))
    names = [each.path for each in ones] == [each.path for each in others]
    return {
        "merged": merged,
        "outputs": outputs,
        "losses": losses,
        "state": largest(numbers(*ones), numbers(*others)),
        "names": names,
    }


said = {name: differences(builder) for name, builder in EVERY.items() if name not in LEFT_OUT}
print(json.dumps({"backend": keras.config.backend(), "models": said}))
