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
from layer_network import FEATURES, OUTPUTS, batches, gradients
from layer_rules_oracle import Adam, Muon, Soap

RATE, STEPS, DECAY = 0.01, 20, 0.125
WAYS = {"compiled": {"jit_compile": True}, "plain": {"jit_compile": False}, "eager": {"run_eagerly": True}}
if sys.argv[1] == "torch":
    WAYS = {"eager": {"jit_compile": False}}
# Rules, and theirs in NumPy of either layer. SOAP turns axes that are no longer than the other: the null space of a
# gradient's square has no basis of its own.
RULES = {
    "SOAP": (
        lambda **more: rewriter.keras3.SOAP(RATE, every=6, epsilon=1e-3, largest=FEATURES + 1, **more),
        lambda: [Soap(RATE, every=6, epsilon=1e-3, sides=sides) for sides in ((0, 1), (1,))],
    ),
    "Muon": (lambda **more: rewriter.keras3.Muon(RATE, **more), lambda: [Muon(RATE), Adam(RATE)]),
}


def network():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(FEATURES + 1, activation="tanh"), layers.Dense(OUTPUTS)]
    )


def data(steps=STEPS):
    return [(x.astype("float32"), y.astype("float32")) for x, y in batches(steps)]


def in_numpy(weights, rules):
    for x, y in data():
        of_layers = gradients(weights, x, y)
        for place, (rule, gradient) in enumerate(zip(rules, of_layers, strict=True)):
            weights[place][:-1] *= 1 - RATE * DECAY
            weights[place] -= rule.step(gradient)
    return weights


def rewritten(rule, **way):
    model = network()
    rewriter.rewrite(model, rule)
    model.compile(model.optimizer, "mse", **way)
    return model


def stacked(model):
    return [np.float64(keras.ops.convert_to_numpy(each)) for each in model.trainable_variables]


def furthest(one, other):
    return float(max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)))


def train(model, steps):
    for x, y in steps:
        model.train_on_batch(x, y)


errors = {}
for name, (make, of_layers) in RULES.items():
    for way, options in WAYS.items():
        model = rewritten(make(weight_decay=DECAY), **options)
        expected = in_numpy(stacked(model), of_layers())
        train(model, data())
        errors[f"{name}, {way}"] = furthest(stacked(model), expected)
    path = f"{sys.argv[2]}/{name}.keras"
    model.save(path)
    again = rewriter.load_model(path)
    for each in (model, again):
        train(each, data(3))
    errors[f"resumed {name}"] = furthest(stacked(model), stacked(again))

print(json.dumps({"backend": keras.config.backend(), "errors": errors}))
