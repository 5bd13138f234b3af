"""What centered coordinates cost: a training step of the reference networks, over the same optimizer without them.

Run it with ``make bench``, or ``python samples/centered_costs.py [ROUNDS] [NETWORK ...]``. It prints the
table of the docs.
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
from alternatives import ROUNDS, table
from reference_networks import NETWORKS
from rewriter.commands.benchmark.compared_optimizers import LEARNING_RATE, MOMENTUM, sgd
from rewriter.commands.benchmark.timing import time_in_turn
from rewriter.commands.benchmark.training_steps import inference, training_step
from rewriter.commands.data_batches import batch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RULES: dict[str, Callable[[], Any]] = {"Adam": lambda: tf_keras.optimizers.Adam(LEARNING_RATE), "SGD": sgd}


def measure(rounds: int, networks: Iterable[str], jit_compile: bool) -> dict[str, dict[str, float]]:
    """Measure some networks; returns for each the ratios of median times.

    ``"Adam"`` is centered Adam over Adam on the original, ``"Adam, rewritten"`` over Adam on the rewritten model with
    gradients equal to rounding, as those of the centered one are; SGD, with momentum, likewise. ``"joint momentum"`` is
    the centered one over SGD with momentum on the original; ``"inference"`` that of a centered model over that of one
    that is rewritten.
    """
    ratios: dict[str, dict[str, float]] = {}
    for network in networks:
        make, batch_size = NETWORKS[network]
        original, rewritten, centered = (make(layers.Dense) for _ in range(3))
        batch, steps = batch_for(original, batch_size), {}
        for name, rule in RULES.items():
            steps[name] = training_step(original, rule(), batch, jit_compile)
            rewriter.rewrite(rewritten, same := rule(), check=False, exact=False)
            steps[f"{name}, rewritten"] = training_step(rewritten, same, batch, jit_compile)
            rewriter.rewrite(centered, other := rewriter.Centered(rule()), check=False)
            steps[f"{name}, centered"] = training_step(centered, other, batch, jit_compile)
        joint = rewriter.JointMomentum(LEARNING_RATE, MOMENTUM, centered=True)
        rewriter.rewrite(centered, joint, check=False)
        steps["joint momentum"] = training_step(centered, joint, batch, jit_compile)
        taken = time_in_turn(steps, rounds)
        passes = {
            name: inference(model, batch, jit_compile)
            for name, model in (("rewritten", rewritten), ("centered", centered))
        }
        ratios[network] = {
            f"{name}{over}": taken.ratio(f"{name}, centered", f"{name}{over}").median
            for name in RULES
            for over in ("", ", rewritten")
        }
        ratios[network]["joint momentum"] = taken.ratio("joint momentum", "SGD").median
        ratios[network]["inference"] = time_in_turn(passes, rounds).ratio("centered", "rewritten").median
        print(f"{network}{', XLA' if jit_compile else ''}: {ratios[network]}", file=sys.stderr)
        del steps, passes
        tf_keras.backend.clear_session()
        gc.collect()
    return ratios


def main(rounds: int = ROUNDS, networks: Iterable[str] = tuple(NETWORKS)) -> None:
    """Print the table, in a graph and compiled by XLA."""
    for name in ("rewriter", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for jit_compile, title in ((False, "In a graph"), (True, "Compiled by XLA")):
        print(f"{title}, the median over {rounds} rounds of the ratio in each:\n")
        print(f"{table(measure(rounds, networks, jit_compile))}\n", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS, sys.argv[2:] or tuple(NETWORKS))
