"""Watch what joint momentum does to each unit, in TensorBoard, and what watching costs.

python samples/watch_momentum.py [LOG_FOLDER] [EPOCHS]
tensorboard --logdir LOG_FOLDER     # DISTRIBUTIONS and HISTOGRAMS: two for each layer, over its units
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import rewriter
from handwriting import LOSS, classifier, split_digits
from rewriter.commands.benchmark.timing import time_in_turn

EPOCHS, BATCH_SIZE, ROUNDS = 20, 32, 9


def trained(data: tuple[Any, Any], epochs: int, *callbacks: Any) -> Any:
    """Train a rewritten classifier on the digits."""
    model = classifier()
    model.compile("sgd", LOSS, metrics=["accuracy"])
    rewriter.rewrite(model, rewriter.JointMomentum(0.05))
    model.fit(*data, epochs=epochs, batch_size=BATCH_SIZE, verbose=0, callbacks=list(callbacks))
    return model


def main(folder: Path, epochs: int = EPOCHS, rounds: int = ROUNDS) -> None:
    """Train under the monitor, then time epochs with and without it."""
    data = split_digits()
    monitor = rewriter.callbacks.JointMomentumMonitor(folder, every=10)
    model = trained(data["train"], epochs, monitor)
    print(f"test accuracy {model.evaluate(*data['test'], verbose=0)[1]:.4f}; see tensorboard --logdir {folder}")
    steps = -(-len(data["train"][0]) // BATCH_SIZE)
    watches = {"no step": [], "every 100th": [100], "each": [1]}
    epoch = {
        name: partial(
            model.fit,
            *data["train"],
            batch_size=BATCH_SIZE,
            verbose=0,
            callbacks=[rewriter.callbacks.JointMomentumMonitor(folder / "cost", each) for each in every],
        )
        for name, every in watches.items()
    }
    timings = time_in_turn(epoch, rounds, calls=1)
    for name in watches:
        ratio = timings.ratio(name, "no step")
        print(f"{name} of {steps} steps written: an epoch takes {timings.median(name) * 1e3:.0f} ms, {ratio} of none")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output/watch"), *map(int, sys.argv[2:3]))
