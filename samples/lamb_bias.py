"""What merging does to LAMB: the norm of the biases over 1,000 steps, with one trust ratio a variable and one a layer.

With a ratio for each variable the ratio of a bias is its own norm over that of its update, and a bias that starts at
zero has no norm. Run it with ``python samples/lamb_bias.py [FOLDER]``; it writes ``lamb_bias.png`` there.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import tf_keras

import rewriter
from handwriting import LOSS, classifier, split_digits
from joint_rules import Lamb

STEPS, BATCH_SIZE, LEARNING_RATE = 1000, 32, 0.01


class BiasNorms(tf_keras.callbacks.Callback):
    """Writes down the norm of each layer's bias after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.norms: list[list[float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Write down one row: a number for each layer."""
        self.norms.append([float(np.linalg.norm(layer.bias)) for layer in self.model.layers])


def train(model: Any, data: Any, steps: int) -> tuple[Any, float]:
    """Train for some steps; returns the norms, of shape (steps, layers), and the test accuracy."""
    x, y = data["train"]
    order = np.random.default_rng(0).integers(0, len(x), steps * BATCH_SIZE)
    watch = BiasNorms()
    model.fit(x[order], y[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0, callbacks=[watch])
    return np.array(watch.norms), model.evaluate(*data["test"], verbose=0)[1]


def main(folder: Path, steps: int) -> None:
    """Train separate and merged, and draw."""
    data = split_digits()
    separate, merged = classifier(), classifier()
    separate.compile(Lamb(LEARNING_RATE), LOSS, metrics=["accuracy"])
    merged.compile("sgd", LOSS, metrics=["accuracy"])
    rewriter.rewrite(merged, optimizer=Lamb(LEARNING_RATE))
    with warnings.catch_warnings():
        # It is the comparison: without a rewrite the rule sees kernel and bias as two variables, and says so.
        warnings.filterwarnings("ignore", message="Lamb was given")
        runs = {"one ratio a variable": train(separate, data, steps), "one ratio a layer": train(merged, data, steps)}
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, len(merged.layers), figsize=(12, 4), layout="constrained", sharex=True)
    for index, (axis, layer) in enumerate(zip(axes, merged.layers, strict=True)):
        for name, (norms, _) in runs.items():
            axis.plot(range(1, steps + 1), norms[:, index], label=name)
        axis.set(title=f"{layer.name}, {layer.units} units", xlabel="step", ylim=(0, None))
    axes[0].set(ylabel="norm of the bias")
    axes[0].legend()
    figure.suptitle(f"LAMB on the digits, learning rate {LEARNING_RATE}, biases from zero")
    figure.savefig(folder / "lamb_bias.png", dpi=120)
    for name, (norms, accuracy) in runs.items():
        ends = ", ".join(f"{layer.name} {norm:.4f}" for layer, norm in zip(merged.layers, norms[-1], strict=True))
        print(f"{name}: norm of the bias after {steps} steps: {ends}; test accuracy {accuracy:.4f}")
    print(f"picture: {folder / 'lamb_bias.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output"), int(sys.argv[2]) if len(sys.argv) > 2 else STEPS)  # noqa: PLR2004
