"""Does joint momentum help? Fine-tuning the digits with SGD, SGD with momentum and joint momentum, ten seeds each.

The learning rate of each optimizer is chosen alike: the best of one grid by the mean accuracy on held-out digits over
three seeds of their own. A seed draws the split, the base model and the batches; the three optimizers share them.
Run it with ``make evidence``, or ``python samples/fine_tuning.py [FOLDER]``; it writes ``fine_tuning.png`` there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import tf_keras
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.progress import track
from rich.table import Table

import rewriter
from handwriting import LOSS, classifier, split_digits

EPOCHS, BATCH_SIZE, MOMENTUM = 20, 32, 0.9
RATES = [float(2.0**-power) for power in range(9, -2, -1)]
TUNING_SEEDS, SEEDS = range(100, 103), range(10)


class Trainer:
    """The classifier under one optimizer, traced once and started anew for each run."""

    def __init__(self, optimizer: Any) -> None:
        self.model = classifier()
        self.model.compile("sgd", LOSS, metrics=["accuracy"])
        if isinstance(optimizer, rewriter.JointOptimizer):
            rewriter.rewrite(self.model, optimizer=optimizer)
        else:
            self.model.compile(optimizer, LOSS, metrics=["accuracy"])

    def run(self, weights: list[Any], rate: float, data: Any, validation: Any, seed: int) -> list[float]:
        """Fine-tune some weights; returns the accuracy on other digits after each epoch."""
        for variable in self.model.optimizer.variables:
            variable.assign(np.zeros_like(variable))
        self.model.optimizer.learning_rate = rate
        with rewriter.standard_form(self.model):
            self.model.set_weights(weights)
        tf_keras.utils.set_random_seed(seed)
        history = self.model.fit(*data, validation_data=validation, epochs=EPOCHS, batch_size=BATCH_SIZE, verbose=0)
        curve: list[float] = history.history["val_accuracy"]
        return curve


def prepare(seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Train the base model of a seed; returns its weights and the digits it has left."""
    data = split_digits(seed)
    x, y = data["rest"]
    held_out = np.random.default_rng(seed).random(len(y)) < 0.25  # noqa: PLR2004  a quarter, for choosing the rate
    model = classifier(seed)
    model.compile(tf_keras.optimizers.SGD(0.1), LOSS)
    model.fit(*data["base"], epochs=15, batch_size=BATCH_SIZE, verbose=0)
    return model.get_weights(), {
        "tune": (x[~held_out], y[~held_out]),
        "held out": (x[held_out], y[held_out]),
        "test": data["test"],
    }


def draw(curves: dict[str, Any], rates: dict[str, float], path: Path) -> None:
    """Draw mean and spread of the test accuracy over the epochs."""
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for name, values in curves.items():
        epochs, mean, spread = range(1, values.shape[1] + 1), values.mean(axis=0), values.std(axis=0)
        axis.plot(epochs, 100 * mean, label=f"{name}, learning rate {rates[name]:g}")
        axis.fill_between(epochs, 100 * (mean - spread), 100 * (mean + spread), alpha=0.2)
    seeds = len(next(iter(curves.values())))
    axis.set(title=f"Fine-tuning on the digits: mean and standard deviation of {seeds} seeds")
    axis.set(xlabel="epoch of fine-tuning", ylabel="test digits correct (%)", ylim=(None, 100))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main(folder: Path, seeds: range, tuning_seeds: range, rates: list[float]) -> None:
    """Choose the learning rates, run the seeds, print and draw."""
    folder.mkdir(parents=True, exist_ok=True)
    trainers = {
        "SGD": Trainer(tf_keras.optimizers.SGD()),
        "SGD with momentum": Trainer(tf_keras.optimizers.SGD(momentum=MOMENTUM)),
        "joint momentum": Trainer(rewriter.JointMomentum(momentum=MOMENTUM)),
    }
    tuned = [(seed, *prepare(seed)) for seed in tuning_seeds]
    chosen = {}
    for name, trainer in track(trainers.items(), "choosing learning rates", console=Console(stderr=True)):
        scores = [
            np.mean(
                [trainer.run(weights, rate, data["tune"], data["held out"], seed)[-1] for seed, weights, data in tuned]
            )
            for rate in rates
        ]
        chosen[name] = rates[int(np.argmax(scores))]
    curves: dict[str, list[list[float]]] = {name: [] for name in trainers}
    for seed in track(seeds, "fine-tuning", console=Console(stderr=True)):
        weights, data = prepare(seed)
        for name, trainer in trainers.items():
            curves[name].append(trainer.run(weights, chosen[name], data["tune"], data["test"], seed))
    arrays = {name: np.array(values) for name, values in curves.items()}
    draw(arrays, chosen, folder / "fine_tuning.png")

    title = f"{EPOCHS} epochs, {len(seeds)} seeds, learning rates of {rates[0]:.4g} to {rates[-1]:.4g} tried"
    table = Table(
        "optimizer", "learning rate", "test accuracy", "of the seeds better than SGD with momentum", title=title
    )
    for name, values in arrays.items():
        last, other = values[:, -1], arrays["SGD with momentum"][:, -1]
        wins = "" if name == "SGD with momentum" else f"{np.sum(last > other)}, equal {np.sum(last == other)}"
        table.add_row(name, f"{chosen[name]:.4g}", f"{last.mean():.4f} ± {last.std():.4f}", wins)
    Console().print(table)
    print(f"picture: {folder / 'fine_tuning.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output"), SEEDS, TUNING_SEEDS, RATES)
