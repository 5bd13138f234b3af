"""What one would do instead of rewriting a model, and what each costs: a step of training on the reference networks.

(a) The layer written by hand, ones beside its input, and the rule with a slot of full size.
(b) An optimizer that finds kernel and bias by their names and joins their gradients at every step.
(c) SGD with momentum on the model as it is: what everything is compared with.

Run it with ``make bench``, or ``python samples/alternatives.py [ROUNDS]``. It prints the table of the README.
"""

from __future__ import annotations

import gc
import logging
import os
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from reference_networks import NETWORKS
from rewriter.commands.benchmark.compared_optimizers import LEARNING_RATE, MOMENTUM, joint_like, sgd
from rewriter.commands.benchmark.timing import time_in_turn
from rewriter.commands.benchmark.training_steps import inference, training_step
from rewriter.commands.data_batches import batch_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Functions = dict[str, Callable[[], Any]]

ROUNDS = 15
ORIGINAL = "SGD with momentum"


class HomogeneousDense(layers.Layer):
    """(a) ``y = [x, 1] · W*``, as one writes it."""

    def __init__(self, units: int, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = tf_keras.activations.get(activation)

    def build(self, shape: Any) -> None:
        """Make ``W*``."""
        self.augmented_kernel = self.add_weight("augmented_kernel", (shape[-1] + 1, self.units))

    def call(self, inputs: Any) -> Any:
        """Multiply by it."""
        stacked = tf.concat([inputs, tf.ones_like(inputs[..., :1])], axis=-1)
        return self.activation(tf.tensordot(stacked, self.augmented_kernel, axes=1))


class FullJointMomentum(tf_keras.optimizers.Optimizer):
    """(a) ``V ← G + μ · 1 · mean(V)`` and ``W* ← W* - η V``, with all of ``V`` kept."""

    def __init__(self, learning_rate: float = LEARNING_RATE, momentum: float = MOMENTUM, **kwargs: Any) -> None:
        super().__init__(name="FullJointMomentum", **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.momentum = momentum

    def build(self, var_list: Any) -> None:
        """Make ``V``."""
        super().build(var_list)
        if not getattr(self, "_built", False):
            self.velocities = [self.add_variable_from_reference(variable, "velocity") for variable in var_list]
            self._built = True

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Take a step."""
        velocity = self.velocities[self._index_dict[self._var_key(variable)]]
        joint = "augmented_kernel" in variable.name
        velocity.assign(gradient + self.momentum * (tf.reduce_mean(velocity, axis=0) if joint else velocity))
        variable.assign_sub(tf.cast(self.learning_rate, variable.dtype) * velocity)

    def get_config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().get_config(), "learning_rate": float(self.learning_rate), "momentum": self.momentum}


class PairingJointMomentum(FullJointMomentum):
    """(b) The same rule on a model as it is: a kernel and the bias of the same name are joined at every step."""

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """Take a step with every pair, and with what is left."""
        pairs = list(grads_and_vars)
        with tf.init_scope():
            self.build([variable for _, variable in pairs])
        joined = set()
        places = {variable.name: place for place, (_, variable) in enumerate(pairs)}
        for place, (gradient, kernel) in enumerate(pairs):
            bias_place = places.get(kernel.name.replace("/kernel", "/bias"), place)
            if bias_place == place or len(kernel.shape) != 2:  # noqa: PLR2004
                continue
            bias_gradient, bias = pairs[bias_place]
            velocity, bias_velocity = self.velocities[place], self.velocities[bias_place]
            joint = tf.concat([gradient, bias_gradient[tf.newaxis]], axis=0)
            kept = tf.concat([velocity, bias_velocity[tf.newaxis]], axis=0)
            step = joint + self.momentum * tf.reduce_mean(kept, axis=0)
            velocity.assign(step[:-1])
            bias_velocity.assign(step[-1])
            kernel.assign_sub(self.learning_rate * step[:-1])
            bias.assign_sub(self.learning_rate * step[-1])
            joined |= {place, bias_place}
        others = [pair for place, pair in enumerate(pairs) if place not in joined]
        return super().apply_gradients(others, *args, **kwargs)


def contestants(make: Callable[..., Any], batch_size: int, jit_compile: bool) -> tuple[Functions, Functions]:
    """Make a training step of a network for each way, and the inference of the network as it is and rewritten."""
    original = make(layers.Dense)
    batch = batch_for(original, batch_size)
    rewritten, paired = make(layers.Dense), make(layers.Dense)
    rewriter.rewrite(rewritten, joint := joint_like(), check=False)
    train: Functions = {
        ORIGINAL: training_step(original, sgd(), batch, jit_compile),
        "JointMomentum": training_step(rewritten, joint, batch, jit_compile),
    }
    infer = {
        name: inference(model, batch, jit_compile) for name, model in (("original", original), ("rewritten", rewritten))
    }
    for name, exact in (("the same SGD", None), ("the same SGD, exact=False", False)):
        rewriter.rewrite(rewritten, same := sgd(), check=False, exact=exact)
        train[name] = training_step(rewritten, same, batch, jit_compile)
    train["(a) by hand"] = training_step(make(HomogeneousDense), FullJointMomentum(), batch, jit_compile)
    train["(b) pairing"] = training_step(paired, PairingJointMomentum(), batch, jit_compile)
    return train, infer


def measure(rounds: int, networks: Iterable[str], jit_compile: bool) -> dict[str, dict[str, float]]:
    """Measure some networks; returns for each the ratios of median times to the original's, and ``"inference"``."""
    ratios = {}
    for network in networks:
        train, infer = contestants(*NETWORKS[network], jit_compile)
        steps, passes = time_in_turn(train, rounds), time_in_turn(infer, rounds)
        ratios[network] = {name: steps.ratio(name, ORIGINAL).of_medians for name in train if name != ORIGINAL}
        ratios[network]["inference"] = passes.ratio("rewritten", "original").of_medians
        print(f"{network}{', XLA' if jit_compile else ''}: {steps.median(ORIGINAL) * 1e3:.2f} ms", file=sys.stderr)
        del train, infer
        tf_keras.backend.clear_session()
        gc.collect()
    return ratios


def table(ratios: dict[str, dict[str, float]]) -> str:
    """Lay the ratios out as a table in Markdown, geometric means below."""
    columns = list(next(iter(ratios.values())))
    rows = [(network, *(f"{found[column]:.2f}" for column in columns)) for network, found in ratios.items()]
    means = (f"{statistics.geometric_mean(found[column] for found in ratios.values()):.2f}" for column in columns)
    lines = [("network", *columns), ["---"] * (len(columns) + 1), *rows, ("geometric mean", *means)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(rounds: int = ROUNDS, networks: Iterable[str] = tuple(NETWORKS)) -> None:
    """Print the table, in a graph and compiled by XLA."""
    for name in ("rewriter", "tensorflow"):  # optimizers are exchanged over and over, and steps traced
        logging.getLogger(name).setLevel(logging.ERROR)
    for jit_compile, title in ((False, "In a graph"), (True, "Compiled by XLA")):
        print(f"{title}, ratios of the median of {rounds} rounds to that of {ORIGINAL} on the model as it is:\n")
        print(f"{table(measure(rounds, networks, jit_compile))}\n", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
