"""Rewrite a model in the middle of training with Adam, and go on as if nothing had happened, bit for bit.

python samples/keep_adam.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

import rewriter
from handwriting import LOSS, classifier, split_digits


def main(epochs: int = 3) -> None:
    """Train two models alike, rewrite one of them half way, and compare."""
    tf.config.experimental.enable_op_determinism()
    data = split_digits()["train"]

    def train(model: Any) -> None:
        tf_keras.utils.set_random_seed(1)  # the same batches in the same order
        model.fit(*data, epochs=epochs, verbose=0)

    preserved, rewritten = classifier(), classifier()
    for model in (preserved, rewritten):
        model.compile("adam", LOSS)
        train(model)
    rewriter.rewrite(rewritten, optimizer="keep")
    for model in (preserved, rewritten):
        train(model)
    rewriter.split(rewritten)
    same = all(map(np.array_equal, preserved.get_weights(), rewritten.get_weights()))
    slots = [[variable.numpy() for variable in model.optimizer.variables] for model in (preserved, rewritten)]
    print(f"the same weights bit for bit: {same}")
    print(f"the same state of Adam bit for bit: {all(map(np.array_equal, *slots))}")


if __name__ == "__main__":
    main()
