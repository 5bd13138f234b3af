"""What the samples share: the handwritten digits that scikit-learn ships, and a classifier for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tf_keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

LOSS = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def split_digits(seed: int = 0) -> dict[str, tuple[Any, Any]]:
    """Split 1,797 scans of 8 x 8 pixels: for a base model digits 0 to 7, for fine-tuning the rest, and a test set."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y)
    base = (y_train < 8) & (np.random.default_rng(seed).random(len(y_train)) < 0.8)  # noqa: PLR2004  digits 8 and 9
    return {
        "base": (x_train[base], y_train[base]),
        "rest": (x_train[~base], y_train[~base]),
        "train": (x_train, y_train),
        "test": (x_test, y_test),
    }


def classifier(seed: int = 0) -> Any:
    """Make a 64-256-256-10 classifier, its weights drawn from a seed; not compiled."""
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential(
        [
            tf_keras.layers.Dense(256, activation="relu", input_shape=(64,), name="hidden_1"),
            tf_keras.layers.Dense(256, activation="relu", name="hidden_2"),
            tf_keras.layers.Dense(10, name="logits"),
        ]
    )
