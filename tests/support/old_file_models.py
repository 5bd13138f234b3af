"""The models in ``written_by_0e88912``: one for each family and each way of keeping what an optimizer knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter

register = tf_keras.saving.register_keras_serializable("old_files")


@register
class Scaled(layers.Layer):
    """Two pairs that the user declares, the second with a unit in each row of its kernel."""

    def build(self, input_shape):
        self.w = self.add_weight("w", (input_shape[-1], 4))
        self.b = self.add_weight("b", (4,), initializer="ones", regularizer="l2")
        self.v = self.add_weight("v", (5, 4))
        self.c = self.add_weight("c", (5,), initializer="ones")
        super().build(input_shape)

    def call(self, inputs):
        hidden = tf.tanh(tf.matmul(inputs, self.w) + self.b)
        return tf.matmul(hidden, self.v, transpose_b=True) + self.c


@register
class Block(layers.Layer):
    """Makes its Dense layers itself, so that no config names them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.wide, self.narrow = layers.Dense(6, activation="relu"), layers.Dense(4)

    def call(self, inputs):
        return self.narrow(self.wide(inputs))


def sequential(*inner):
    return tf_keras.Sequential([layers.InputLayer((5,)), *inner, layers.Dense(3, name="head")])


def dense():
    return sequential(layers.Dense(4, activation="relu", kernel_regularizer="l2", name="hidden"))


def convolutions():
    return sequential(
        layers.Dense(24, name="first"),
        layers.Reshape((3, 2, 4), name="reshaped"),
        layers.Conv2D(4, 2, padding="same", activation="relu", name="conv"),
        layers.Conv2DTranspose(3, 2, name="transposed"),
        layers.SeparableConv2D(4, 2, name="separable"),
        layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise"),
        layers.Flatten(name="flat"),
    )


def einsum():
    inputs = tf_keras.Input((5,))
    x = layers.Reshape((4, 6), name="reshaped")(layers.Dense(24, name="first")(inputs))
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.EinsumDense("abc,dc->abd", output_shape=(None, 4), bias_axes="d", name="einsum")(x)
    return tf_keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten(name="flat")(x)))


def recurrent():
    return sequential(
        layers.Dense(8, name="first"),
        layers.Reshape((4, 2), name="reshaped"),
        layers.SimpleRNN(3, return_sequences=True, name="simple"),
        layers.LSTM(3, return_sequences=True, name="lstm"),
        layers.Bidirectional(layers.GRU(2, name="gru"), name="both"),
    )


def declared():
    rewriter.pair(Scaled, kernel="w", bias="b")
    rewriter.pair(Scaled, kernel="v", bias="c", units=-2)
    return sequential(Scaled(name="scaled"))


def hidden():
    return sequential(Block(name="block"))


def adam():
    return optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 2, 0.5), amsgrad=True)


def scaled():
    return tf_keras.mixed_precision.LossScaleOptimizer(optimizers.Nadam(0.01), dynamic_growth_steps=4)


def without_decay_of_biases():
    optimizer = optimizers.AdamW(0.013, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def sgd():
    return optimizers.SGD(0.05, momentum=0.87)


@dataclass(frozen=True)
class Case:
    """A model, how it is compiled, and how it is rewritten."""

    build: Callable[[], Any]
    optimizer: Callable[[], Any] = sgd
    choice: str | None = None
    layers: str = "dense"
    weights: bool = False  # whether files of weights alone, and a checkpoint, were written as well
    # False for Nadam: tf-keras counts its products in Python while it traces, so a model that traces again differs.
    resumes: bool = True


CASES = {
    "dense_joint": Case(dense, weights=True),
    "dense_adam": Case(dense, adam, "keep"),
    "dense_loss_scale": Case(dense, scaled, "keep", resumes=False),
    "dense_decay": Case(dense, without_decay_of_biases, "keep"),
    "conv": Case(convolutions, layers="all"),
    "einsum": Case(einsum, adam, "keep", "all"),
    "recurrent": Case(recurrent, layers="all"),
    "declared": Case(declared),
    "hidden": Case(hidden, adam, "keep"),
}


def batch():
    generator = np.random.default_rng(3)
    x, y = generator.standard_normal((8, 5)), generator.standard_normal((8, 3))
    return x.astype("float32"), y.astype("float32")


def train(model):
    """Two steps, always on the same batch."""
    for _ in range(2):
        model.train_on_batch(*batch())
