"""What else is measured: the update alone, the rewrite of a deep model, a file of a gigabyte, ``--help``.

Run it with ``make bench``, or ``python samples/reference_costs.py [FOLDER]``; the files go into FOLDER, else into a
temporary one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import tensorflow as tf
import tf_keras
from rich.console import Console
from rich.table import Table

import rewriter
from reference_networks import perceptron
from rewriter.commands.benchmark.compared_optimizers import joint_like, sgd
from rewriter.commands.benchmark.timing import time_in_turn

ROUNDS = 15
COMMAND = str(Path(sys.executable).parent / "rewriter")
# What converting a file is compared with, in a process of its own as the command is.
PLAIN = """
import sys, tf_keras
tf_keras.models.load_model(sys.argv[1]).save(sys.argv[2])
"""


def updates(size: int, rounds: int) -> dict[str, float]:
    """Time the update alone of a layer of size by size; returns ratios to that of tf-keras SGD with momentum."""
    functions = {}
    for name, optimizer, jit_compile in (
        ("SGD", sgd(), False),
        ("JointMomentum", joint_like(), False),
        ("JointMomentum, XLA", joint_like(), True),
    ):
        model = perceptron(size, size)
        if name != "SGD":
            rewriter.rewrite(model, optimizer, check=False)
        gradients = [tf.Variable(tf.random.normal(variable.shape)) for variable in model.trainable_variables]
        optimizer.build(model.trainable_variables)
        functions[name] = _update(optimizer, gradients, model.trainable_variables, jit_compile)
    for name, jit_compile in (("floor", False), ("floor, XLA", True)):
        gradient, variable = (tf.Variable(tf.random.normal((size + 1, size))) for _ in range(2))
        functions[name] = _floor(gradient, variable, jit_compile)
    timings = time_in_turn(functions, rounds)
    return {name: timings.ratio(name, "SGD").of_medians for name in functions}


def _update(optimizer: Any, gradients: Any, variables: Any, jit_compile: bool) -> Any:
    def update() -> Any:
        pairs = zip([tf.identity(gradient) for gradient in gradients], variables, strict=True)
        return optimizer.apply_gradients(list(pairs))

    traced = tf.function(update, jit_compile=jit_compile)
    return lambda: traced().numpy()


def _floor(gradient: Any, variable: Any, jit_compile: bool) -> Any:
    """Read G, read and write W*, once: plain gradient descent by TensorFlow's fused operation."""

    def descend() -> Any:
        tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=1e-4, delta=gradient)
        return tf.constant(0)

    traced = tf.function(descend, jit_compile=jit_compile)
    return lambda: traced().numpy()


def chain(depth: int, rounds: int) -> dict[str, float]:
    """Time the rewrite and the split of a compiled chain of layers of 64 units, in seconds."""
    seconds: dict[str, list[float]] = {"rewrite": [], "rewrite, check=False": [], "split": []}
    for _ in range(rounds):
        checked, unchecked = (perceptron(64, *[64] * depth) for _ in range(2))
        for model in (checked, unchecked):
            model.compile(sgd(), "mse")
        for what, act in (
            ("rewrite", partial(rewriter.rewrite, checked)),
            ("rewrite, check=False", partial(rewriter.rewrite, unchecked, check=False)),
            ("split", partial(rewriter.split, checked)),
        ):
            start = time.perf_counter()
            act()
            seconds[what].append(time.perf_counter() - start)
        tf_keras.backend.clear_session()
    return {what: statistics.median(measured) for what, measured in seconds.items()}


def files(folder: Path, width: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Convert a file of four layers; returns seconds and bytes at peak, as ratios to a plain load and save."""
    base, joint = folder / "base.keras", folder / "joint.keras"
    perceptron(width, *[width] * 4).save(base)
    commands = {
        "plain": [sys.executable, "-c", PLAIN, base],
        "rewrite": [COMMAND, "rewrite", "--overwrite", base],
        "export": [COMMAND, "export", "--overwrite", joint],
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            output = joint if name == "rewrite" else folder / f"{name}.keras"
            measured[name].append(_run([*map(str, command), str(output)]))
    seconds, peaks = (
        {name: statistics.median(each[column] for each in runs) for name, runs in measured.items()} for column in (0, 1)
    )
    return {name: (seconds[name] / seconds["plain"], peaks[name] / peaks["plain"]) for name in ("rewrite", "export")}


def _run(command: list[str]) -> tuple[float, float]:
    """Run a command; returns its seconds and its resident memory at peak."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, float(usage.ru_maxrss)


def show_help(rounds: int) -> float:
    """Time ``rewriter --help``, in seconds."""
    return statistics.median(_run([COMMAND, "--help"])[0] for _ in range(rounds))


def main(
    folder: Path,
    rounds: int = ROUNDS,
    sizes: tuple[int, ...] = (1024, 4096),
    width: int = 8192,
    depths: tuple[int, ...] = (50, 100, 200),
) -> None:
    """Print all of them beside their targets."""
    table = Table("what", "measured", "target")

    def show(what: str, measured: str, target: str) -> None:
        table.add_row(what, measured, target)
        print(f"{what}: {measured}", file=sys.stderr)

    for size in sizes:
        found = updates(size, rounds)
        for then, target in (("", 0.60), (", XLA", 0.30)):
            joint, floor = found[f"JointMomentum{then}"], found[f"floor{then}"]
            show(f"update alone, {size} x {size}{then}, of SGD's", f"{joint:.2f}", f"{target:.2f}")
            show(f"update alone, {size} x {size}{then}, of the floor", f"{joint / floor:.2f}", "1.30")
    for depth in depths:
        for what, seconds in chain(depth, min(rounds, 5)).items():
            show(f"{what}, {depth} layers", f"{seconds:.2f} s", "0.50 s" if depth == 200 else "")  # noqa: PLR2004
    for what, (time_ratio, memory_ratio) in files(folder, width, min(rounds, 3)).items():
        gigabytes = (folder / "base.keras").stat().st_size / 1e9
        show(f"{what}, a file of {gigabytes:.1f} GB, time of load and save", f"{time_ratio:.2f}", "1.25")
        show(f"{what}, a file of {gigabytes:.1f} GB, peak memory", f"{memory_ratio:.2f}", "1.20")
    show("rewriter --help", f"{show_help(rounds):.2f} s", "0.40 s")
    Console(width=100).print(table)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
