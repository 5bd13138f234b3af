"""Rules of a user's own, written on ``JointOptimizer`` as a user would."""

import tensorflow as tf
import tf_keras

import rewriter
from arrays import bits
from models import MODELS


@tf_keras.saving.register_keras_serializable("tests")
class Rule(rewriter.JointOptimizer):
    """Keeps a slot of every extent and uses each; all that it does shows in the weights."""

    slots = {"of_unit": "unit", "of_row": "incoming", "of_layer": "layer", "of_each": "full"}

    def __init__(self, learning_rate=0.0625, beta=0.5, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.beta = beta

    def update_layer(self, gradient, variable, layout):
        of_unit, of_row, of_layer, of_each = (self.slot(name, variable) for name in self.slots)
        of_unit.assign(self.beta * of_unit + tf.reduce_mean(gradient, axis=0))
        of_row.assign(self.beta * of_row + tf.reduce_mean(gradient, axis=1))
        of_layer.assign(self.beta * of_layer + tf.norm(gradient))
        of_each.assign(self.beta * of_each + gradient)
        step = of_each + of_unit + of_row[:, None] + of_layer
        variable[layout.kernel_rows].assign(variable[layout.kernel_rows] - self.rate(variable) * step[:-1])
        variable[layout.bias_rows].assign(variable[layout.bias_rows] - 2 * self.rate(variable) * step[-1:])

    def rate(self, variable):
        return tf.cast(self.learning_rate, variable.dtype)


@tf_keras.saving.register_keras_serializable("tests")
class CenteredByHand(rewriter.JointOptimizer):
    """Centered gradient descent, as the page on centered coordinates has it."""

    statistics = {"input_mean": 0.99}

    def update_layer(self, gradient, variable, layout):
        rate = tf.cast(self.learning_rate, variable.dtype)
        mean = self.statistic("input_mean", variable)
        of_kernel, of_bias = gradient[layout.kernel_rows], gradient[layout.bias_rows]
        moved = rate * (of_kernel - mean * of_bias)
        bias = rate * of_bias - tf.reduce_sum(mean * moved, axis=0, keepdims=True)
        variable.assign_sub(tf.concat([moved, bias], axis=0))


@tf_keras.saving.register_keras_serializable("tests")
class Bounded(rewriter.JointOptimizer):
    """Gradient descent whose step over all layers is one of length 1 at most, times the rate."""

    slots = {"lengths": "layer"}

    def update_layers(self, layers):
        squares = [tf.reduce_sum(tf.square(layer.gradient)) for layer in layers]
        length = tf.sqrt(tf.add_n(squares))
        for layer, square in zip(layers, squares, strict=True):
            rate = tf.cast(self.learning_rate, layer.variable.dtype)
            layer.variable.assign_sub(rate * layer.gradient / tf.maximum(length, 1.0))
            self.slot("lengths", layer.variable).assign(tf.sqrt(square))


class Step(rewriter.JointOptimizer):
    """Plain gradient descent, from which the mistakes in the tests depart."""

    def update_layer(self, gradient, variable, layout):  # noqa: ARG002
        variable.assign_sub(0.1 * gradient)


class Short(Step):
    """Has a ``get_config`` of its own, which forgets what that of the base gives."""

    def __init__(self, learning_rate=0.1, rho=0.5, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.rho = rho

    def get_config(self):
        return {"rho": self.rho}


def rule(**methods):
    """Make a rule with the methods, or slots, of the test."""
    return type("Mine", (Step,), methods)


def rewritten(name="sequential", optimizer=None, **compiled):
    model = MODELS[name]()
    model.compile("sgd", "mse", **compiled)
    return rewriter.rewrite(model, optimizer=optimizer or Rule())


def weights(model):
    return [bits(weight) for weight in model.get_weights()]
