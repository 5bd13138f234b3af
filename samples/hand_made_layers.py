"""Layers that nobody registered: their pairs found in what the model computes, or told; trained, split, the same.

Run it with ``python samples/hand_made_layers.py``.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

import rewriter
from handwriting import LOSS, split_digits


class Highway(tf_keras.layers.Layer):
    """Mixes its input with what it makes of it, as a gate of its own says (Srivastava et al., 2015): two pairs."""

    def build(self, input_shape: Any) -> None:
        """Make the weights, as many units as inputs."""
        units = input_shape[-1]
        self.w = self.add_weight("w", (units, units))
        self.b = self.add_weight("b", (units,), initializer="zeros")
        self.w_gate = self.add_weight("w_gate", (units, units))
        self.b_gate = self.add_weight("b_gate", (units,), initializer=tf_keras.initializers.Constant(-1.0))
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return ``gate · relu(x W + b) + (1 - gate) · x``."""
        gate = tf.sigmoid(inputs @ self.w_gate + self.b_gate)
        return gate * tf.nn.relu(inputs @ self.w + self.b) + (1.0 - gate) * inputs


class Sharpness(tf_keras.layers.Layer):
    """Multiplies logits by a number that is learned: a weight that flows into no unit."""

    def build(self, input_shape: Any) -> None:
        """Make the one weight."""
        self.sharpness = self.add_weight("sharpness", (), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return the inputs, multiplied."""
        return inputs * self.sharpness


class Classifier(tf_keras.Model):
    """A subclassed model of hand-made layers and Keras's."""

    def __init__(self) -> None:
        super().__init__()
        self.highways = [Highway(), Highway()]
        self.head = tf_keras.layers.Dense(10)
        self.calibration = Sharpness()

    def call(self, inputs: Any) -> Any:
        """Return the logits of a batch of digits."""
        for highway in self.highways:
            inputs = highway(inputs)
        return self.calibration(self.head(inputs))


def classifier() -> Any:
    """Make the model, the same one each time."""
    tf_keras.utils.set_random_seed(1)
    model = Classifier()
    model(tf.zeros((1, 64)))
    model.compile("sgd", LOSS, metrics=["accuracy"])
    return model


def main(epochs: int = 10) -> None:
    """Rewrite the model both ways, train it, and compare what comes out."""
    data = split_digits()

    print("found: what a product and an addition share, and what is left over")
    found = classifier()
    print(rewriter.plan(found, discover=True))
    rewriter.rewrite(found, rewriter.JointMomentum(0.1, 0.9), discover=True)

    print("\ntold: the same, without a look at the graph")
    rewriter.pair(Highway, kernel="w", bias="b")
    rewriter.pair(Highway, kernel="w_gate", bias="b_gate")
    told = classifier()
    print(rewriter.plan(told))
    rewriter.rewrite(told, rewriter.JointMomentum(0.1, 0.9))

    for model in (found, told):
        model.fit(*data["train"], epochs=epochs, batch_size=64, shuffle=False, verbose=0)
        rewriter.split(model)
    same = all(map(np.array_equal, found.get_weights(), told.get_weights()))
    print(f"\nafter {epochs} epochs and a split, the same weights bit for bit: {same}")
    print(f"test accuracy {told.evaluate(*data['test'], verbose=0)[1]:.4f}")


if __name__ == "__main__":
    main()
