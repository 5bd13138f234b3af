"""The rules on whole layers beside AdamW, on a deep autoencoder of handwritten digits: steps, seconds and losses.

Run it with ``python samples/layer_rules.py [EPOCHS]``.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import TYPE_CHECKING, Any

import tf_keras
from rich.console import Console
from rich.table import Table
from tf_keras import layers

import rewriter
from handwriting import split_digits

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTHS = (128, 64, 32, 8, 32, 64, 128)
OUTPUTS = 64
# K-FAC and the quasi-diagonal rule have to know in which unit the loss is: of a mean square half the outputs.
RULES: dict[str, Callable[[], Any]] = {
    "AdamW": lambda: tf_keras.optimizers.AdamW(0.004),
    "centered AdamW": lambda: rewriter.Centered(tf_keras.optimizers.AdamW(0.004)),
    "SOAP": lambda: rewriter.SOAP(0.008),
    "K-FAC": lambda: rewriter.KFAC(0.008, loss_factor=OUTPUTS / 2),
    "Muon": lambda: rewriter.Muon(0.008),
    "quasi-diagonal": lambda: rewriter.QuasiDiagonal(0.002, loss_factor=OUTPUTS / 2),
}


def autoencoder() -> Any:
    """Make the network, always from the same start."""
    tf_keras.utils.set_random_seed(0)
    hidden = [layers.Dense(width, activation="tanh") for width in WIDTHS]
    return tf_keras.Sequential([layers.InputLayer((OUTPUTS,)), *hidden, layers.Dense(OUTPUTS)])


def main(epochs: int = 40) -> None:
    """Train with each."""
    data = split_digits()
    train, test = data["train"][0], data["test"][0]
    table = Table("rule", "training loss", "test loss", "seconds", title=f"{epochs} epochs, batches of 32")
    for name, rule in RULES.items():
        model = autoencoder()
        model.compile(rule(), "mse")
        if name != "AdamW":
            rewriter.rewrite(model, model.optimizer)
        model.fit(train, train, batch_size=32, verbose=0)  # traced, and trained for an epoch, before it is timed
        start = time.perf_counter()
        model.fit(train, train, batch_size=32, epochs=epochs - 1, verbose=0)
        seconds = time.perf_counter() - start
        losses = [f"{model.evaluate(each, each, verbose=0):.4f}" for each in (train, test)]
        table.add_row(name, *losses, f"{seconds:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
