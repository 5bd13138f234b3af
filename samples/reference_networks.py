"""The networks that every speed is measured on, and the batch that each trains with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tf_keras
from tf_keras import layers

if TYPE_CHECKING:
    from collections.abc import Callable


def perceptron(fan_in: int, *widths: int, dense: Any = layers.Dense) -> Any:
    """Make a stack of layers, ReLU between them."""
    *hidden, last = widths
    stack = [dense(width, activation="relu") for width in hidden]
    return tf_keras.Sequential([layers.InputLayer((fan_in,)), *stack, dense(last)])


def encoder(
    blocks: int = 4, length: int = 32, width: int = 256, feed_forward: int = 1024, dense: Any = layers.Dense
) -> Any:
    """Make a transformer encoder: attention and a feed-forward network in each block, each with a residual."""
    inputs = outputs = tf_keras.Input((length, width))
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(4, width // 4)(outputs, outputs)
        outputs = layers.LayerNormalization()(outputs + attended)
        fed = dense(width)(dense(feed_forward, activation="relu")(outputs))
        outputs = layers.LayerNormalization()(outputs + fed)
    return tf_keras.Model(inputs, outputs)


# Each takes the class of its layers, and comes with its batch size.
NETWORKS: dict[str, tuple[Callable[..., Any], int]] = {
    "784-256-256-10, batch 128": (lambda dense: perceptron(784, 256, 256, 10, dense=dense), 128),
    "1024 x 4, batch 32": (lambda dense: perceptron(1024, *[1024] * 4, dense=dense), 32),
    "1024 x 4, batch 256": (lambda dense: perceptron(1024, *[1024] * 4, dense=dense), 256),
    "64 x 40, batch 32": (lambda dense: perceptron(64, *[64] * 40, dense=dense), 32),
    "4096 x 2, batch 16": (lambda dense: perceptron(4096, *[4096] * 2, dense=dense), 16),
    "encoder, 4 blocks of 256, batch 32": (lambda dense: encoder(dense=dense), 32),
}
