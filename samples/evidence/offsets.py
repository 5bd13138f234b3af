"""Features far from zero: every optimizer at its default rate, plain and centered, on fresh and on trained networks.

``python samples/evidence/offsets.py`` adds what is missing to ``offsets.jsonl`` and prints, for each optimizer and
offset, the worst ratio of the centered training loss to the plain one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import itertools
import math
from typing import Any

import numpy as np
import tf_keras
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.preprocessing import StandardScaler

import rewriter

FILE = Path(__file__).parent / "offsets.jsonl"
OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion")
OFFSETS, STARTS, SEEDS, EPOCHS = (1, 10, 100), ("fresh", "trained"), range(2), 20
_REGRESSION = "diabetes"
TASKS = {_REGRESSION: load_diabetes, "cancer": load_breast_cancer, "digits": load_digits}


def data_of(task: str, offset: float, seed: int) -> tuple[Any, Any]:
    """Return features of spread one that lie some spreads from zero, each on a side of its own, and targets."""
    x, y = TASKS[task](return_X_y=True)
    x = StandardScaler().fit_transform(x)
    x = x + offset * np.random.default_rng(seed).choice([-1, 1], x.shape[1])
    if task == _REGRESSION:
        y = StandardScaler().fit_transform(y[:, np.newaxis])
    return x.astype("float32"), y.astype("float32")


def loss_after(task: str, name: str, offset: float, start: str, seed: int, centered: bool) -> float:
    """Train; return the loss on the training data."""
    x, y = data_of(task, offset, seed)
    regression = task == _REGRESSION
    loss = "mse" if regression else tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tf_keras.utils.set_random_seed(seed)
    dense = tf_keras.layers.Dense
    outputs = 1 if regression else int(y.max()) + 1
    model = tf_keras.Sequential([dense(64, "relu", input_shape=x.shape[1:]), dense(64, "relu"), dense(outputs)])
    make = getattr(tf_keras.optimizers, name)
    if start == "trained":
        model.compile(make(), loss, steps_per_execution=64)
        model.fit(x, y, epochs=EPOCHS, verbose=0)
    model.compile(make(), loss, steps_per_execution=64)
    if centered:
        rewriter.rewrite(model, optimizer="centered", check=False)
    model.fit(x, y, epochs=EPOCHS, verbose=0)
    return float(model.evaluate(x, y, 512, verbose=0))


def main() -> None:
    """Do what is not done, and print."""
    done = {
        tuple(line[:-1]): line[-1] for line in map(json.loads, FILE.read_text().splitlines() if FILE.exists() else [])
    }
    for key in itertools.product(TASKS, OPTIMIZERS, OFFSETS, STARTS, SEEDS, (False, True)):
        if key not in done:
            loss = loss_after(*key)
            done[key] = float(f"{loss:.5g}") if math.isfinite(loss) else None
            with FILE.open("a") as file:
                file.write(json.dumps([*key, done[key]]) + "\n")
    table = Table("optimizer", *(f"{start}, {offset}" for start in STARTS for offset in OFFSETS))
    table.title = f"training loss, centered over plain, the worst of {', '.join(TASKS)} (means of {len(SEEDS)} seeds)"
    for name in OPTIMIZERS:
        cells = []
        for start, offset in itertools.product(STARTS, OFFSETS):
            ratios = []
            for task in TASKS:
                plain, centered = (
                    [done[task, name, offset, start, seed, way] for seed in SEEDS] for way in (False, True)
                )
                ratios.append(_ratio(_mean(centered), _mean(plain)))
            cells.append(f"{max(ratios):.2f}")
        table.add_row(name, *cells)
    Console().print(table)


def _ratio(centered: float, plain: float) -> float:
    if math.isfinite(centered):
        return centered / plain
    return math.inf if math.isfinite(plain) else 1.0  # no worse: neither trains at this rate


def _mean(losses: list[float | None]) -> float:
    return math.inf if None in losses else float(np.mean([each for each in losses if each is not None]))


if __name__ == "__main__":
    main()
