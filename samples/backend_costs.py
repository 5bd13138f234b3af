"""What a training step of Keras 3 costs on one backend: joint momentum and centered coordinates over the original.

Run it with ``make bench``, or ``KERAS_BACKEND=jax python samples/backend_costs.py [ROUNDS] [NETWORK ...]``.
"""

from __future__ import annotations

import logging
import math
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import TYPE_CHECKING, Any

import keras
from keras import layers
from rewriter.keras3.commands.benchmark.compared_optimizers import LEARNING_RATE, MOMENTUM, sgd  # type: ignore[import-not-found]
from rewriter.keras3.commands.benchmark.timing import time_in_turn  # type: ignore[import-not-found]
from rewriter.keras3.commands.benchmark.training_steps import training_step  # type: ignore[import-not-found]
from rewriter.keras3.commands.data_batches import batch_for  # type: ignore[import-not-found]

import rewriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Compared = dict[str, tuple[Callable[[], Any], Callable[[], Any]]]

ROUNDS = 15
# The widths of the layers, that of the input first, and the batch.
NETWORKS = {
    "784-256-256-10, batch 128": ((784, 256, 256, 10), 128),
    "1024 x 4, batch 32": ((1024,) * 5, 32),
    "1024 x 4, batch 256": ((1024,) * 5, 256),
    "64 x 40, batch 32": ((64,) * 41, 32),
    "4096 x 2, batch 16": ((4096,) * 3, 16),
}


def adam() -> Any:
    """Make the Adam that is compared with itself."""
    return keras.optimizers.Adam(LEARNING_RATE)


def joint() -> Any:
    """Make the joint momentum that is compared with SGD."""
    return rewriter.keras3.JointMomentum(LEARNING_RATE, MOMENTUM)


# What the rewritten model trains with, and what the original trains with.
COMPARED: Compared = {
    "joint momentum / SGD with momentum": (joint, sgd),
    "the same SGD": (sgd, sgd),
    "centered joint momentum / SGD with momentum": (lambda: rewriter.keras3.Centered(joint()), sgd),
    "centered SGD with momentum": (lambda: rewriter.keras3.Centered(sgd()), sgd),
    "centered Adam": (lambda: rewriter.keras3.Centered(adam()), adam),
}


def perceptron(widths: tuple[int, ...]) -> Any:
    """Make a stack of layers, ReLU between them."""
    *hidden, last = widths[1:]
    stack = [layers.Dense(width, activation="relu") for width in hidden]
    model = keras.Sequential([keras.Input((widths[0],)), *stack, layers.Dense(last)])
    model.compile("sgd", "mse")
    return model


def measure(widths: tuple[int, ...], batch_size: int, rounds: int, compared: Compared) -> dict[str, float]:
    """Return, for one network, the median over the rounds of each ratio."""
    steps: dict[Any, Callable[[], Any]] = {}
    batch = batch_for(perceptron(widths), batch_size)
    for name, (rewritten, original) in compared.items():
        if original not in steps:
            steps[original] = training_step(perceptron(widths), original(), batch)
        model, optimizer = perceptron(widths), rewritten()
        rewriter.rewrite(model, optimizer, check=False)
        steps[name] = training_step(model, optimizer, batch)
    taken = time_in_turn(steps, rounds)
    return {name: taken.ratio(name, original).median for name, (_, original) in compared.items()}


def print_costs(networks: dict[str, tuple[tuple[int, ...], int]], rounds: int, compared: Compared) -> None:
    """Print the ratios of each network, and their geometric means."""
    logging.getLogger("rewriter").setLevel(logging.ERROR)
    print(f"Keras {keras.__version__} on {keras.config.backend()}, medians of {rounds} rounds")
    ratios = {}
    for network, (widths, batch_size) in networks.items():
        ratios[network] = measure(widths, batch_size, rounds, compared)
        print(f"{network}: {', '.join(f'{name} {ratio:.2f}' for name, ratio in ratios[network].items())}", flush=True)
    for name in compared:
        logs = [math.log(of[name]) for of in ratios.values()]
        print(f"{name}, geometric mean: {math.exp(sum(logs) / len(logs)):.2f}")


def main(rounds: int = ROUNDS, names: Iterable[str] = tuple(NETWORKS)) -> None:
    """Print the costs on some networks."""
    print_costs({name: NETWORKS[name] for name in names}, rounds, COMPARED)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS, sys.argv[2:] or tuple(NETWORKS))
