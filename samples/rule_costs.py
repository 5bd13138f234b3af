"""What the rules on whole layers cost: a training step over one of Adam on the original model, and the state.

Run it with ``make bench``, or ``python samples/rule_costs.py [ROUNDS] [NETWORK ...]``; it prints two tables.
"""

from __future__ import annotations

import gc
import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import TYPE_CHECKING, Any

import tf_keras
from tf_keras import layers

import rewriter
from alternatives import table
from reference_networks import NETWORKS, perceptron
from rewriter.adapters import keras
from rewriter.commands.benchmark.compared_optimizers import LEARNING_RATE
from rewriter.commands.benchmark.timing import time_in_turn
from rewriter.commands.benchmark.training_steps import training_step
from rewriter.commands.data_batches import batch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROUNDS = 9
_AUTOENCODER = (64, 128, 64, 32, 8, 32, 64, 128, 64)
# The networks of the other tables, and one of narrow layers, as the autoencoder of the evidence has them.
ALL: dict[str, tuple[Callable[..., Any], int]] = {
    "64-128-64-32-8 and back, batch 64": (
        lambda dense: perceptron(64, 128, 64, 32, 8, 32, 64, 128, 64, dense=dense),
        64,
    ),
    **NETWORKS,
}
RULES: dict[str, Callable[[], Any]] = {
    "SOAP": lambda: rewriter.SOAP(LEARNING_RATE),
    "SOAP, largest=512": lambda: rewriter.SOAP(LEARNING_RATE, largest=512),
    "SOAP, every=1": lambda: rewriter.SOAP(LEARNING_RATE, every=1),
    "K-FAC": lambda: rewriter.KFAC(LEARNING_RATE),
    "K-FAC, factors_every=5, every=50": lambda: rewriter.KFAC(LEARNING_RATE, factors_every=5, every=50),
    "K-FAC, every=1": lambda: rewriter.KFAC(LEARNING_RATE, every=1),
    "Muon": lambda: rewriter.Muon(LEARNING_RATE),
    "quasi-diagonal": lambda: rewriter.QuasiDiagonal(LEARNING_RATE),
    "quasi-diagonal, every=1": lambda: rewriter.QuasiDiagonal(LEARNING_RATE, every=1),
}


def _bytes_of(optimizer: Any) -> int:
    return sum(keras.bytes_of(each) for each in optimizer.variables)


def measure(rounds: int, networks: Iterable[str]) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Measure some networks; returns for each, by rule, the ratio of the times of a step, and that of the states."""
    times: dict[str, dict[str, float]] = {}
    states: dict[str, dict[str, float]] = {}
    for network in networks:
        make, batch_size = ALL[network]
        original, adam = make(layers.Dense), tf_keras.optimizers.Adam(LEARNING_RATE)
        batch = batch_for(original, batch_size)
        plain = training_step(original, adam, batch, jit_compile=False)
        times[network], states[network] = {}, {}
        # Each with Adam alone, as the states of all together may not fit.
        for name, rule in RULES.items():
            model, optimizer = make(layers.Dense), rule()
            rewriter.rewrite(model, optimizer, check=False)
            step = training_step(model, optimizer, batch, jit_compile=False)
            taken = time_in_turn({"Adam": plain, name: step}, rounds)
            times[network][name] = taken.ratio(name, "Adam").median
            states[network][name] = _bytes_of(optimizer) / _bytes_of(adam)
            print(f"{network}, {name}: {times[network][name]:.2f}", file=sys.stderr, flush=True)
            del model, optimizer, step
            gc.collect()
        tf_keras.backend.clear_session()
    return times, states


def main(rounds: int = ROUNDS, networks: Iterable[str] = tuple(ALL)) -> None:
    """Print both tables."""
    for name in ("rewriter", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    times, states = measure(rounds, networks)
    print(f"A step over one of Adam, in a graph, the median over {rounds} rounds of the ratio in each:\n")
    print(f"{table(times)}\n\nIts state over that of Adam:\n\n{table(states)}\n", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS, sys.argv[2:] or tuple(ALL))
