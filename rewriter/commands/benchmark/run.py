"""A model against itself, rewritten: training steps, inference, optimizer state and memory, on this machine."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from rewriter.core import progress
from rewriter.core.errors import ModelError, first_line
from rewriter.core.keras_packages import CALLED

from ...adapters import keras
from ...files.reading import read_model
from ...model.families import names_of
from ...optimizers.centered.optimizer import Centered
from ...planning.planner import plan
from ...rewriting.model_run import run_model
from ...rewriting.rewrite import rewrite
from ...rewriting.split import split
from ..data_batches import Batch, batch_for
from ..plots.benchmark_plot import draw
from ..plots.drawing import require_drawable
from .compared_optimizers import joint_like, rule_like, sgd
from .peak_memory import Subject, peak_memory
from .results import Benchmark, Row
from .timing import time_in_turn
from .training_steps import inference, training_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path


_ORIGINAL = "SGD with momentum"
_CENTERED = {"SGD": sgd, "JointMomentum": joint_like}


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
    centered: bool = False,
    optimizer: str | None = None,
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
        centered: Measure the same SGD, and joint momentum, in centered coordinates too.
        optimizer: The name of the rule to measure; ``None`` for the model's own, or joint momentum.

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
    joint = (
        functools.partial(joint_like, rewritten.optimizer)
        if optimizer is None
        else functools.partial(rule_like, optimizer)
    )
    name = type(joint()).__name__
    # What the rewritten model trains with, and whether exactly: see rewriter.rewrite.
    compared: list[tuple[str, Callable[[], Any], bool | None]]
    compared = [(name, joint, None), ("the same SGD", sgd, None), ("the same SGD, exact=False", sgd, False)]
    if centered:
        compared += [(f"centered {each}", functools.partial(_centered, make), None) for each, make in _CENTERED.items()]
    rows, state = _times(compared, original, rewritten, chosen, batch, rounds, steps, jit_compile)
    memory = {
        name: peak_memory(
            Subject(
                str(path), is_rewritten, chosen, batch.size, None if data is None else str(data), safe_mode, imports
            )
        )
        for name, is_rewritten in progress.each([("original", False), ("rewritten", True)], "measuring: peak memory")
    }
    result = Benchmark(str(path), CALLED[keras.NAME], batch.size, rounds, rows, name, state, memory)
    if plot is not None:
        draw(result, plot)
    return result


def _centered(make: Callable[[], Any]) -> Any:
    return Centered(make())


def _times(
    compared: Sequence[tuple[str, Callable[[], Any], bool | None]],
    original: Any,
    rewritten: Any,
    chosen: dict[str, Any],
    batch: Batch,
    rounds: int,
    steps: int | None,
    jit_compile: bool,
) -> tuple[tuple[Row, ...], dict[str, int]]:
    first = compared[0][0]
    rows: list[Row] = []
    state: dict[str, int] = {}
    for compiled in (False, True) if jit_compile else (False,):
        optimizer = sgd()
        train = {_ORIGINAL: _tried(training_step, original, optimizer, batch, compiled)}
        infer = {_ORIGINAL: inference(original, batch, compiled)}
        state[_ORIGINAL] = _state_bytes(optimizer)
        for name, make, exact in compared:
            optimizer = make()
            rewrite(rewritten, optimizer, check=False, exact=exact, **chosen)
            train[name] = training_step(rewritten, optimizer, batch, compiled)
            state[name] = _state_bytes(optimizer)
            if name == first:
                infer[name] = inference(rewritten, batch, compiled)
        then = ", XLA" if compiled else ""
        rows += _compared(f"training step{then}", train, rounds, steps)
        rows += _compared(f"inference{then}", infer, rounds, steps)
    return tuple(rows), {"original": state[_ORIGINAL], "rewritten": state[first]}


def _tried(make: Callable[..., Callable[[], Any]], model: Any, optimizer: Any, batch: Batch, compiled: bool) -> Any:
    """Return the training step of a model, once it has been taken on targets that a user gave."""
    try:
        step = make(model, optimizer, batch, compiled)
        if batch.targets is not None:
            step()
    except Exception as error:
        if batch.targets is None:
            raise
        raise ModelError(f"the model cannot be trained on the targets that are given: {first_line(error)}") from error
    return step


def _compared(what: str, functions: dict[str, Callable[[], Any]], rounds: int, steps: int | None) -> Iterator[Row]:
    timings = time_in_turn(functions, rounds, steps, f"measuring: {what}")
    for name in functions:
        if name != _ORIGINAL:
            ratio = timings.ratio(name, _ORIGINAL)
            yield Row(what, name, timings.median(_ORIGINAL), timings.median(name), ratio)


def _state_bytes(optimizer: Any) -> int:
    state = keras.optimizer_slots(keras.inner_optimizer(optimizer))
    slots = [slot for slots in state.lists.values() for slot in slots] if state else []
    return sum(map(keras.bytes_of, slots))
