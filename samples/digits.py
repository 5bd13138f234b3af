"""The main job, end to end, on real input: handwritten digits that scikit-learn ships.

A classifier is trained with plain SGD on most classes, saved, rewritten from the command line, fine-tuned on the rest
with centered joint momentum, exported, verified, and loaded in a process in which this library cannot be imported.
Beside it the same base is fine-tuned with other optimizers, plain and centered, for the picture.

Run it with ``make demo``; what it writes is in ``demo-output/``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt
import numpy as np
import tf_keras
from rich.console import Console
from rich.table import Table

import rewriter
from handwriting import LOSS, classifier, split_digits

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUT = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
BASE, JOINT, TUNED = OUTPUT / "base.keras", OUTPUT / "joint.keras", OUTPUT / "tuned.keras"
SEED, EPOCHS, BATCH_SIZE = 0, 15, 32
# Each at a rate that the evidence (docs/evidence.rst) chose alike for all by the test metric, on the fine-tuning task.
LEARNING_RATE, MOMENTUM = 2**-0.5, 0.9
OTHERS: dict[str, Callable[[], Any]] = {
    "SGD with momentum": lambda: tf_keras.optimizers.SGD(2**-5, MOMENTUM),
    "centered SGD with momentum": lambda: rewriter.Centered(tf_keras.optimizers.SGD(2**-3.5, MOMENTUM)),
    "joint momentum": lambda: rewriter.JointMomentum(2**-6.5, MOMENTUM),
    "Adam": lambda: tf_keras.optimizers.Adam(2**-10),
    "centered Adam": lambda: rewriter.Centered(tf_keras.optimizers.Adam(2**-10.5)),
}

ELSEWHERE = """
import json, sys
sys.modules["rewriter"] = None  # whoever imports it now gets an ImportError
import numpy as np, tf_keras
data = np.load(sys.argv[2])
model = tf_keras.models.load_model(sys.argv[1])
print(json.dumps(model.evaluate(data["x"], data["y"], verbose=0)[1]))
"""


def train_base(x: Any, y: Any) -> Any:
    """Train the classifier with plain SGD."""
    model = classifier(SEED)
    model.compile(tf_keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"])
    model.fit(x, y, epochs=EPOCHS, batch_size=BATCH_SIZE, verbose=0)
    return model


def with_optimizer(optimizer: Any) -> Any:
    """Read the base again, and have it train with another optimizer."""
    model = tf_keras.models.load_model(BASE)
    model.compile(optimizer, model.loss, metrics=["accuracy"])
    if isinstance(optimizer, rewriter.JointOptimizer | rewriter.Centered):
        rewriter.rewrite(model, optimizer=optimizer)
    return model


def fine_tune(model: Any, data: dict[str, tuple[Any, Any]]) -> dict[str, list[float]]:
    """Fit a model on the rest of the digits, the same batches whichever model it is; returns its learning curve."""
    tf_keras.utils.set_random_seed(SEED)
    history = model.fit(*data["rest"], epochs=EPOCHS, batch_size=BATCH_SIZE, verbose=0, validation_data=data["test"])
    curve: dict[str, list[float]] = history.history
    return curve


def command(*arguments: str | Path) -> None:
    """Run one command of the ``rewriter`` command line, as a user would, and show it."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ rewriter {' '.join(words)}", flush=True)
    subprocess.run(["rewriter", *words], check=True)  # noqa: S607  the one of this environment, first on PATH


def accuracy_elsewhere(path: Path, x: Any, y: Any) -> float:
    """Load a model and test it in another process, in which ``rewriter`` cannot be imported."""
    np.savez(OUTPUT / "test.npz", x=x, y=y)
    arguments = [sys.executable, "-c", ELSEWHERE, str(path), str(OUTPUT / "test.npz")]
    result = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return float(json.loads(result.stdout.splitlines()[-1]))


def draw(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the learning curves of fine-tuning, training loss and test accuracy."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, curve in curves.items():
        epochs = range(1, len(curve["loss"]) + 1)
        axes[0].plot(epochs, curve["loss"], marker=".", label=name)
        axes[1].plot(epochs, [100 * value for value in curve["val_accuracy"]], marker=".", label=name)
    axes[0].set(title="Training loss", xlabel="epoch of fine-tuning", ylabel="cross-entropy (nats)", yscale="log")
    axes[1].set(title="Test accuracy", xlabel="epoch of fine-tuning", ylabel="correct (%)")
    axes[0].legend()
    figure.suptitle("Fine-tuning on digits 0 to 9: same start, same batches")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the life cycle of a rewritten model."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    data = split_digits(SEED)
    base = train_base(*data["base"])
    base.save(BASE)
    before = base.evaluate(*data["test"], verbose=0)[1]

    command("inspect", BASE)
    settings = ("--learning-rate", str(LEARNING_RATE), "--momentum", str(MOMENTUM))
    command("rewrite", BASE, JOINT, *settings, "--overwrite")

    model = rewriter.load_model(JOINT)
    curves = {"centered joint momentum": fine_tune(model, data)}
    rewriter.save_model(model, JOINT, overwrite=True)
    curves |= {name: fine_tune(with_optimizer(make()), data) for name, make in OTHERS.items()}

    command("export", JOINT, TUNED, "--overwrite")
    command("verify", JOINT, TUNED)

    tuned = model.evaluate(*data["test"], verbose=0)[1]
    elsewhere = accuracy_elsewhere(TUNED, *data["test"])
    draw(curves, OUTPUT / "learning_curves.png")

    table = Table("model", "test accuracy", title=f"\n{len(data['test'][1])} test digits")
    table.add_row("base, digits 0 to 7", f"{before:.4f}")
    for name in OTHERS:
        table.add_row(f"fine-tuned, {name}", f"{curves[name]['val_accuracy'][-1]:.4f}")
    table.add_row("fine-tuned, centered joint momentum", f"{tuned:.4f}")
    table.add_row("exported, in a process without rewriter", f"{elsewhere:.4f}")
    Console().print(table)
    print(f"learning curves: {OUTPUT / 'learning_curves.png'}")
    if elsewhere != tuned:
        sys.exit(f"the exported model is another function: accuracy {elsewhere} instead of {tuned}")


if __name__ == "__main__":
    main()
