"""Each way of making a step of joint momentum, against the rule with the full V, in NumPy."""

import gc

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from momentum_oracle import MOMENTUM, RATE, oracle, relative_error
from rewriter.adapters.tf_keras.fused import momentum_step

STEPS = 12
BOUND = 1e9  # never reached, but a clipped gradient is no product any more
# By the way that is to be taken: fan_in, units, settings of the optimizer, is the step compiled.
WAYS = {
    "_by_factors": (520, 520, {}, False),
    "_by_factors, XLA": (6, 5, {}, True),
    "_in_place": (6, 5, {}, False),
    "_in_place, XLA": (520, 520, {"global_clipnorm": BOUND}, True),
    "_compiled": (520, 520, {"global_clipnorm": BOUND}, False),
}


def centered_oracle(weights, steps, nesterov):
    """The rule with the full V, on ``(G_W - m ⊗ G_b, G_b)``, its step taken as ``(ΔW, Δb - mᵀ ΔW)``."""
    full, total, count = np.zeros_like(weights), 0.0, 0.0
    for x, upstream in steps:
        total, count = total + x.sum(axis=0), count + len(x)
        mean = total / count
        full = np.vstack([(x - mean).T @ upstream, upstream.sum(axis=0)]) + MOMENTUM * full.mean(axis=0)
        last = np.vstack([(x - mean).T @ upstream, upstream.sum(axis=0)])
        moved = -RATE * (last + MOMENTUM * full.mean(axis=0) if nesterov else full)
        weights = weights + np.vstack([moved[:-1], moved[-1] - mean @ moved[:-1]])
        total, count = 0.99 * total, 0.99 * count
    return weights


@pytest.mark.parametrize("centered", [False, True], ids=["", "centered"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_the_rule(monkeypatch, generator, way, nesterov, centered):
    fan_in, units, settings, xla = WAYS[way]
    taken = []

    def spied(name, original):
        def spy(*arguments):
            taken.append(name)
            return original(*arguments)

        return spy

    for name in ("_by_factors", "_in_place", "_compiled"):
        monkeypatch.setattr(momentum_step, name, spied(name, getattr(momentum_step, name)))

    inputs = tf_keras.Input((fan_in,), dtype="float64")
    model = tf_keras.Model(inputs, layers.Dense(units, dtype="float64")(inputs))
    optimizer = rewriter.JointMomentum(RATE, MOMENTUM, nesterov=nesterov, centered=centered, **settings)
    rewriter.rewrite(model, optimizer)
    dense = model.layers[-1]
    start = dense.augmented_kernel.numpy()

    @tf.function(jit_compile=xla)
    def step(inputs, upstream):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs) * upstream)
        optimizer.minimize(loss, model.trainable_variables, tape)

    steps, gradients = [], []
    for _ in range(STEPS):
        x, upstream = generator.normal(1.5, 1.0, (4, fan_in)), generator.standard_normal((4, units))
        gradients.append(np.vstack([x.T @ upstream, upstream.sum(axis=0)]))
        steps.append((x, upstream))
        step(tf.constant(x), tf.constant(upstream))

    assert taken[0] == way.split(",")[0]
    expected = centered_oracle(start, steps, nesterov) if centered else oracle(start, gradients, 0, nesterov=nesterov)
    assert relative_error(dense.augmented_kernel.numpy(), expected) < 1e-12


def test_a_layer_as_large_as_one_that_is_gone_trains():
    """What was compiled for the one has nothing to do with the other; nor with another optimizer."""
    x = np.ones((4, 520), "float32")

    def trained():
        model = tf_keras.Sequential([layers.Dense(520, input_shape=(520,))])
        model.compile("sgd", "mse")
        rewriter.rewrite(model, rewriter.JointMomentum(RATE, clipnorm=BOUND), check=False)
        model.fit(x, x, verbose=0)
        return model

    trained()
    gc.collect()
    model = trained()
    model.compile(rewriter.JointMomentum(RATE, clipnorm=BOUND), "mse")
    gc.collect()
    before = model.get_weights()[0]
    model.fit(x, x, verbose=0)
    assert (model.get_weights()[0] != before).any()
