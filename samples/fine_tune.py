"""Fine-tune a saved model under centered joint momentum and export it: the main job, in Python.

python samples/fine_tune.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import tf_keras

import rewriter
from handwriting import LOSS, classifier, split_digits


def main(folder: Path, epochs: int = 5) -> None:
    """Train a base model on some digits, fine-tune it rewritten on the others, and export it."""
    data = split_digits()
    base = classifier()
    base.compile(tf_keras.optimizers.SGD(0.05, momentum=0.9), LOSS, metrics=["accuracy"])
    base.fit(*data["base"], epochs=epochs, verbose=0)
    base.save(folder / "base.keras")

    model = tf_keras.models.load_model(folder / "base.keras")
    print(rewriter.plan(model))
    rewriter.rewrite(model)  # the learning rate, momentum and velocity of the SGD go on
    model.fit(*data["rest"], epochs=epochs, verbose=0)
    rewriter.export(model, folder / "tuned.keras")

    tuned = tf_keras.models.load_model(folder / "tuned.keras")
    for name, each in (("base", base), ("tuned", tuned)):
        print(f"{name}: test accuracy {each.evaluate(*data['test'], verbose=0)[1]:.4f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
