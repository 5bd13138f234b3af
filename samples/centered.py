"""Center the optimizer that a model is compiled with: the same rule, in coordinates in which inputs have no mean.

python samples/centered.py
"""

from __future__ import annotations

import statistics
from typing import Any

import tf_keras

import rewriter
from handwriting import LOSS, classifier, split_digits

SEEDS = range(3)
RULES = {
    "Adam": lambda: tf_keras.optimizers.Adam(1e-3),
    "SGD with momentum": lambda: tf_keras.optimizers.SGD(0.02, momentum=0.9),
}


def trained(rule: Any, seed: int, centered: bool, epochs: int) -> tuple[float, float]:
    """Train a classifier of digits; return its training loss and test accuracy."""
    data = split_digits()
    tf_keras.utils.set_random_seed(seed)
    model = classifier()
    model.compile(rule(), LOSS, metrics=["accuracy"])
    if centered:
        rewriter.rewrite(model, optimizer="centered")
    model.fit(*data["train"], epochs=epochs, verbose=0)
    rewriter.split(model)  # plain Keras again, and the optimizer too
    loss, _ = model.evaluate(*data["train"], verbose=0)
    _, accuracy = model.evaluate(*data["test"], verbose=0)
    return loss, accuracy


def main(epochs: int = 10) -> None:
    """Compare each rule with itself, centered."""
    for name, rule in RULES.items():
        for centered in (False, True):
            runs = [trained(rule, seed, centered, epochs) for seed in SEEDS]
            loss, accuracy = (statistics.mean(each) for each in zip(*runs, strict=True))
            print(f"{'centered ' if centered else ''}{name}: training loss {loss:.4f}, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
