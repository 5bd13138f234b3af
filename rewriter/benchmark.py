"""A model against itself, rewritten: training steps, inference, optimizer state and memory, on this machine."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import tf_keras
from rich.text import Text

from rewriter import keras_internals, progress, tables
from rewriter.batches import Batch, batch_for
from rewriter.benchmark_plot import draw
from rewriter.errors import ModelError
from rewriter.families import names_of
from rewriter.joint_momentum import JointMomentum
from rewriter.joint_optimizer import is_joint
from rewriter.peak_memory import Subject, peak_memory
from rewriter.pictures import require_drawable
from rewriter.planning import plan
from rewriter.probing import run_model
from rewriter.reading import read_model
from rewriter.rewriting import rewrite
from rewriter.separating import split
from rewriter.timing import Ratio, time_in_turn
from rewriter.training_steps import inference, training_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from rewriter.tables import Parts

# Small enough that no model leaves the region in which its numbers are ordinary, however many steps are timed.
LEARNING_RATE = 1e-4
MOMENTUM = 0.9


def sgd() -> Any:
    """Make the SGD with momentum that every comparison is with."""
    return tf_keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)


def joint_like(optimizer: Any = None) -> Any:
    """Make the joint optimizer that is compared with it: joint momentum, or one like that of a model that has one."""
    if not is_joint(optimizer):
        return JointMomentum(LEARNING_RATE, MOMENTUM)
    rule = keras_internals.inner_optimizer(optimizer)
    config = rule.get_config()
    return type(rule).from_config({**config, **({"learning_rate": LEARNING_RATE} if "learning_rate" in config else {})})


_ORIGINAL = "SGD with momentum"


class Row(NamedTuple):
    """One comparison.

    Attributes:
        what: What is done: ``"training step"``, ``"training step, XLA"``, ``"inference"``, ``"inference, XLA"``.
        rewritten: What the rewritten model trains with.
        original_seconds: The median time of the original under tf-keras SGD with momentum.
        rewritten_seconds: That of the rewritten model.
        ratio: The rewritten model's over the original's.
    """

    what: str
    rewritten: str
    original_seconds: float
    rewritten_seconds: float
    ratio: Ratio

    def to_dict(self) -> dict[str, Any]:
        """Return ``what``, ``rewritten``, ``original_seconds``, ``rewritten_seconds`` and ``ratio`` as JSON data."""
        return {**self._asdict(), "ratio": self.ratio.to_dict()}


@dataclass(frozen=True)
class Benchmark:
    """What was measured.

    Attributes:
        model: The model's file.
        batch_size: Rows in a batch.
        rounds: How often each was measured.
        rows: The times.
        joint_optimizer: The class of the joint optimizer: that of the model, or else ``"JointMomentum"``.
        optimizer_state: Bytes of slots of the original and of the rewritten model under the joint optimizer.
        peak_memory: Bytes that training takes at most beside TensorFlow itself, of the same two, each in a process of
            its own.
    """

    model: str
    batch_size: int
    rounds: int
    rows: tuple[Row, ...]
    joint_optimizer: str
    optimizer_state: dict[str, int]
    peak_memory: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the benchmark as JSON data; times in seconds, sizes in bytes.

        The keys are ``file``, ``batch_size``, ``rounds``, ``times``, each as ``Row.to_dict``, ``joint_optimizer``, its
        class, and ``optimizer_state`` and ``peak_memory``, each with ``original`` and ``rewritten``.
        """
        return {
            "file": self.model,
            "batch_size": self.batch_size,
            "rounds": self.rounds,
            "times": [row.to_dict() for row in self.rows],
            "joint_optimizer": self.joint_optimizer,
            "optimizer_state": self.optimizer_state,
            "peak_memory": self.peak_memory,
        }

    def parts(self, width: int) -> Parts:
        """Show the times and sizes as a table, the ratios alone where it is narrow, and how they were measured."""
        times = [
            (
                row.what,
                row.rewritten,
                f"{row.original_seconds * 1e3:.2f} ms",
                f"{row.rewritten_seconds * 1e3:.2f} ms",
                str(row.ratio),
            )
            for row in self.rows
        ]
        sizes = [
            (what, self.joint_optimizer, *(f"{size:,} bytes" for size in sizes.values()), _share(*sizes.values()))
            for what, sizes in (("optimizer state", self.optimizer_state), ("peak memory", self.peak_memory))
        ]
        columns = ("measured", "rewritten with", "original", "rewritten", "ratio (quartiles)")
        rounds = tables.counted(self.rounds, "round")
        said = f"batch of {self.batch_size}, {rounds} in turn; original: tf-keras SGD with momentum"
        both = ["original", "rewritten"]
        cells = [[Text(cell) for cell in row] for row in (*times, *sizes)]
        return [tables.fitting(columns, cells, width, right=both, dropped=[both]), said]


def benchmark_file(
    path: Path,
    batch_size: int = 32,
    rounds: int = 15,
    steps: int | None = None,
    jit_compile: bool = False,
    data: Path | None = None,
    safe_mode: bool = True,
    imports: tuple[str, ...] = (),
    plot: Path | None = None,
    layers: str | Iterable[str] = "dense",
    discover: bool = False,
) -> Benchmark:
    """Measure the model in a file against itself, rewritten.

    Args:
        path: The file; it may be rewritten already.
        batch_size: Rows in a batch, where the model leaves that open.
        rounds: How often each is measured, in turn.
        steps: Steps in a round; ``None`` makes it as many as take about a tenth of a second.
        jit_compile: Measure what XLA makes of it, too.
        data: An ``.npz`` file with a batch; ``None`` makes one of random numbers.
        safe_mode: As in ``load_model``.
        imports: Modules to import before the file is read, in the processes that measure memory.
        plot: Where to draw the times, if anywhere.
        layers: Which families of layers are merged, as in ``rewrite``.
        discover: Whether pairs are looked for in what the model computes.

    Raises:
        ModelError: Nothing of the model can be merged, or it does not say what it takes.
        FileError: A file cannot be read or written.
    """
    if plot is not None:
        require_drawable(plot)
    original, rewritten = (read_model(path, safe_mode=safe_mode)[0] for _ in range(2))
    split(original)
    chosen: dict[str, Any] = {"layers": names_of(layers), "discover": discover}
    decided = plan(rewritten, **chosen)
    if not decided.merges and not decided.merged:
        raise ModelError(f"{path}: nothing to merge, no layer has a kernel and a bias that can be stacked.")
    batch = batch_for(original, batch_size, data)
    if data is not None:
        run_model(original, batch.inputs)  # what does not fit is said before anything is measured
    joint = functools.partial(joint_like, rewritten.optimizer)
    name = type(joint()).__name__
    rows, state = _times((name, joint), original, rewritten, chosen, batch, rounds, steps, jit_compile)
    memory = {
        name: peak_memory(
            Subject(
                str(path), is_rewritten, chosen, batch.size, None if data is None else str(data), safe_mode, imports
            )
        )
        for name, is_rewritten in progress.each([("original", False), ("rewritten", True)], "measuring: peak memory")
    }
    result = Benchmark(str(path), batch.size, rounds, rows, name, state, memory)
    if plot is not None:
        draw(result, plot)
    return result


def _times(
    joint: tuple[str, Callable[[], Any]],
    original: Any,
    rewritten: Any,
    chosen: dict[str, Any],
    batch: Batch,
    rounds: int,
    steps: int | None,
    jit_compile: bool,
) -> tuple[tuple[Row, ...], dict[str, int]]:
    # What the rewritten model trains with, and whether exactly: see rewriter.rewrite.
    contestants = ((*joint, None), ("the same SGD", sgd, None), ("the same SGD, exact=False", sgd, False))
    rows: list[Row] = []
    state: dict[str, int] = {}
    for compiled in (False, True) if jit_compile else (False,):
        optimizer = sgd()
        train = {_ORIGINAL: training_step(original, optimizer, batch, compiled)}
        infer = {_ORIGINAL: inference(original, batch, compiled)}
        state[_ORIGINAL] = _state_bytes(optimizer)
        for name, make, exact in contestants:
            optimizer = make()
            rewrite(rewritten, optimizer, check=False, exact=exact, **chosen)
            train[name] = training_step(rewritten, optimizer, batch, compiled)
            state[name] = _state_bytes(optimizer)
            if name == joint[0]:
                infer[name] = inference(rewritten, batch, compiled)
        then = ", XLA" if compiled else ""
        rows += _compared(f"training step{then}", train, rounds, steps)
        rows += _compared(f"inference{then}", infer, rounds, steps)
    return tuple(rows), {"original": state[_ORIGINAL], "rewritten": state[joint[0]]}


def _compared(what: str, functions: dict[str, Callable[[], Any]], rounds: int, steps: int | None) -> Iterator[Row]:
    timings = time_in_turn(functions, rounds, steps, f"measuring: {what}")
    for name in functions:
        if name != _ORIGINAL:
            ratio = timings.ratio(name, _ORIGINAL)
            yield Row(what, name, timings.median(_ORIGINAL), timings.median(name), ratio)


def _state_bytes(optimizer: Any) -> int:
    state = keras_internals.optimizer_slots(keras_internals.inner_optimizer(optimizer))
    slots = [slot for slots in state.lists.values() for slot in slots] if state else []
    return sum(slot.shape.num_elements() * slot.dtype.size for slot in slots)


def _share(before: int, after: int) -> str:
    return f"{after / before:.3f}" if before else ""
