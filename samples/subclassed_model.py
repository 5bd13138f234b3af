"""Rewrite a subclassed model: layers in attributes, in a list, and one that is used twice.

python samples/subclassed_model.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras

import rewriter


class Residual(tf_keras.Model):
    """Blocks in a list, with one layer shared by all of them."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.blocks = [tf_keras.layers.Dense(16, activation="relu") for _ in range(blocks)]
        self.mix = tf_keras.layers.Dense(16)
        self.head = tf_keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        """Add to each block's input what it makes of it."""
        hidden = inputs
        for block in self.blocks:
            hidden = hidden + self.mix(block(hidden))
        return self.head(hidden)


def main() -> None:
    """Rewrite, train, and split back."""
    x = np.random.default_rng(0).standard_normal((256, 16)).astype("float32")
    y = np.sin(x.sum(axis=1, keepdims=True))
    model = Residual()
    model.compile("sgd", "mse")
    model(x[:1])  # so that it is built: before that there are no weights to merge
    print(rewriter.plan(model))
    names = [weight.name for weight in model.weights]
    rewriter.rewrite(model, rewriter.JointMomentum(0.01))
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    rewriter.split(model)
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
    print(f"the same weights by name and order after the split: {[w.name for w in model.weights] == names}")


if __name__ == "__main__":
    main()
