"""Train a network of Keras 3 by each rule on whole layers; print how far it is from NumPy, and from itself resumed.

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
from layer_network import FEATURES, OUTPUTS, batches, passed
from layer_rules_oracle import Adam, Kfac, Muon, QuasiDiagonal, Soap

RATE, STEPS, DECAY = 0.01, 20, 0.125
WAYS = {"compiled": {"jit_compile": True}, "eager": {"run_eagerly": True}}
if sys.argv[1] == "torch":
    WAYS = {"eager": {"jit_compile": False}}


class OfEach:
    """Rules that take each layer's gradient by itself."""

    def __init__(self, *rules):
        self.rules = rules

    def step(self, calls):
        return [rule.step(read.T @ back) for rule, (read, back) in zip(self.rules, calls, strict=True)]


# Rules, and theirs in NumPy. SOAP turns axes that are no longer than the other: the null space of a
# gradient's square has no basis of its own.
RULES = {
    "SOAP": (
        lambda **more: rewriter.keras3.SOAP(RATE, every=6, epsilon=1e-3, largest=FEATURES + 1, **more),
        lambda: OfEach(*(Soap(RATE, every=6, epsilon=1e-3, sides=sides) for sides in ((0, 1), (1,)))),
    ),
    "Muon": (lambda **more: rewriter.keras3.Muon(RATE, **more), lambda: OfEach(Muon(RATE), Adam(RATE))),
    "KFAC": (
        lambda **more: rewriter.keras3.KFAC(RATE, factors_every=2, every=4, **more),
        lambda: Kfac(2, RATE, measured_every=2, every=4),
    ),
    "QuasiDiagonal": (lambda **more: rewriter.keras3.QuasiDiagonal(RATE, **more), lambda: QuasiDiagonal(2, RATE)),
}


def network():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(FEATURES + 1, activation="tanh"), layers.Dense(OUTPUTS)]
    )


def data(steps=STEPS):
    return [(x.astype("float32"), y.astype("float32")) for x, y in batches(steps)]


def in_numpy(weights, rule):
    for x, y in data():
        steps = rule.step(passed(weights, x, y))
        for weight, step in zip(weights, steps, strict=True):
            weight[:-1] *= 1 - RATE * DECAY
            weight[:] -= step
    return weights


def rewritten(rule, **way):
    model = network()
    rewriter.rewrite(model, rule)
    model.compile(model.optimizer, "mse", **way)
    return model


def stacked(model):
    return [np.float64(keras.ops.convert_to_numpy(each)) for each in (layer.augmented_kernel for layer in model.layers)]


def furthest(one, other):
    return float(max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)))


def train(model, steps):
    for x, y in steps:
        model.train_on_batch(x, y)


class SlowWeights(rewriter.keras3.JointOptimizer):
    """A rule that keeps where a layer was when it began, as lookahead does: its slots start as the weights."""

    slots = {"slow": "full", "count": "layer"}

    def initial_slot(self, name, variable, shape):
        if name == "slow":
            return keras.ops.convert_to_tensor(variable)
        return super().initial_slot(name, variable, shape)

    def update_layer(self, gradient, variable, layout):
        del layout
        variable.assign_sub(keras.ops.cast(self.learning_rate, variable.dtype) * gradient)


def completed(make):
    """Merge one layer, train, merge the other, train; return the loss before and at the end."""
    model = network()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, make(), include=model.layers[0].name)
    train(model, data(6))
    rewriter.rewrite(model)
    before = model.evaluate(*data(1)[0], verbose=0)
    train(model, data(6))
    return float(before), float(model.evaluate(*data(1)[0], verbose=0))


def kept_where_they_began():
    model = rewritten(SlowWeights(RATE), **WAYS[next(iter(WAYS))])
    began = stacked(model)
    train(model, data(3))
    slow = [keras.ops.convert_to_numpy(model.optimizer.slot("slow", each.augmented_kernel)) for each in model.layers]
    return furthest(began, slow)


errors = {}
for name, (make, oracle) in RULES.items():
    for way, options in WAYS.items():
        model = rewritten(make(weight_decay=DECAY), **options)
        expected = in_numpy(stacked(model), oracle())
        train(model, data())
        errors[f"{name}, {way}"] = furthest(stacked(model), expected)
    path = f"{sys.argv[2]}/{name}.keras"
    model.save(path)
    again = rewriter.load_model(path)
    for each in (model, again):
        train(each, data(3))
    errors[f"resumed {name}"] = furthest(stacked(model), stacked(again))

errors["slots that start as the weights"] = kept_where_they_began()
rules = {"slow weights": lambda: SlowWeights(RATE), **{name: make for name, (make, _) in RULES.items()}}
losses = {name: completed(make) for name, make in rules.items()}
print(json.dumps({"backend": keras.config.backend(), "errors": errors, "completed": losses}))
