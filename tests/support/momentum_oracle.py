"""Joint momentum in NumPy and float64, with the full V, and what is trained by it."""

import numpy as np
import tensorflow as tf

from rewriter import Layout, Part

# Numbers as users give them. The learning rate is what Keras's variable holds of it; all else reaches float64 whole.
RATE, MOMENTUM = float(np.float32(0.03)), 0.87


def oracle(value, gradients, axis=None, rates=RATE, momentum=MOMENTUM, nesterov=False, decay=0.0):
    """V <- G + mu * mean(V) along an axis (V itself for None); W <- W - eta * V, or by V one step ahead.

    Decay, a number for each element of W, comes first: W <- W - eta * decay * W.
    """

    def carried(velocity):
        return momentum * (velocity if axis is None else velocity.mean(axis=axis, keepdims=True))

    value, velocity = value.astype(np.float64), np.zeros(value.shape)
    for gradient, rate in zip(gradients, np.broadcast_to(rates, len(gradients)), strict=True):
        value = value - rate * decay * value
        velocity = gradient.astype(np.float64) + carried(velocity)
        value = value - rate * (gradient + carried(velocity) if nesterov else velocity)
    return value


def relative_error(value, expected):
    return np.abs(np.asarray(value, np.float64) - expected).max() / np.abs(expected).max()


def augmented(value, name="d"):
    fan_in, units = value.shape[0] - 1, value.shape[1]
    variable = tf.Variable(value, name=f"{name}/augmented_kernel")
    Layout((Part("kernel", f"{name}/kernel", (fan_in, units), 0), Part("bias", f"{name}/bias", (units,), 1))).attach(
        variable
    )
    return variable


def train(optimizer, variables, gradients):
    """Apply gradients of shape (steps, ...), in one graph."""
    optimizer.build(variables)

    @tf.function
    def steps(gradients):
        for step in tf.range(len(gradients[0])):
            optimizer.apply_gradients([(each[step], v) for each, v in zip(gradients, variables, strict=True)])

    steps([tf.constant(each) for each in gradients])
