"""Callbacks for ``fit``: what joint momentum and centered optimizers do, layer by layer, in TensorBoard."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rewriter.core.errors import OptimizerError
from rewriter.core.layout import augmented_kernels, layouts_in

from ..adapters import Callback, keras
from ..model.walk import locate_layers, require_model
from .centered.optimizer import is_centered, observer_of
from .hyperparameters import require_count
from .joint_momentum import JointMomentum

if TYPE_CHECKING:
    import os

_FOLDER = "joint_momentum"  # inside the log folder, beside the "train" of Keras's own callback


class _Watched(NamedTuple):
    name: str
    kernel: Any
    momentum: Any  # the mean momentum of each unit, None of an optimizer that keeps none
    observer: Any  # what a centered optimizer keeps of the inputs, None of one that does not


class JointMomentumMonitor(Callback):
    """Writes what joint momentum or a centered optimizer does to each layer to TensorBoard.

    For each augmented kernel ``W*`` of shape ``(rows, units)`` there is a histogram over the units,
    ``<path>/update_norm``, the norm of each column of what a step added to ``W*``, bias and all, whatever else a step
    does to it (weight decay, a constraint). Under :class:`rewriter.JointMomentum` there is another, its ``m``,
    ``<path>/mean_momentum``; and under a centered optimizer a number, ``<path>/input_mean_norm``, the norm of the mean
    of the layer's inputs. All are of the first step, and of each ``every``-th after it, by the optimizer's count. Where
    ``fit`` runs several steps at once (``steps_per_execution``) the update is what all of them added.

    The cost is in the steps that are written: each copies every ``W*`` twice and took some 1.5 ms for each of them on
    two CPU cores; in all others it is the call of two functions that do nothing. On the digits an epoch of 43 steps
    took 2.3 times as long with each step written, and 1.07 times with one of a hundred
    (``samples/watch_momentum.py`` measures it).

    Args:
        log_dir: The folder that ``tensorboard --logdir`` is given; the events go into ``joint_momentum`` in it.
        every: Steps from one that is written to the next.

    Raises:
        ImportError: TensorBoard is not installed.
        ValueError: ``every`` is no integer of at least 1.
        OptimizerError: When training starts: the optimizer keeps no mean momentum of a unit, and is not centered.
    """

    def __init__(self, log_dir: str | os.PathLike[str], every: int = 100) -> None:
        require_count("every", every)
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError("JointMomentumMonitor needs TensorBoard: pip install 'keras-rewriter[tensorboard]'.")
        super().__init__()
        self.log_dir = Path(log_dir)
        self.every = every
        self._watched: list[_Watched] = []
        self._before: list[Any] = []
        self._writer: Any = None
        self._batches = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Find what there is to watch."""
        del logs
        require_model(self.model)  # of the other Keras it has no optimizer that could be watched
        optimizer = keras.inner_optimizer(self.model.optimizer)
        joint = isinstance(optimizer, JointMomentum) and optimizer.average == "incoming"
        if not joint and not is_centered(optimizer):
            kind = type(optimizer).__name__ + (", average='outgoing'" if isinstance(optimizer, JointMomentum) else "")
            raise OptimizerError(
                f"JointMomentumMonitor watches JointMomentum, and {self.model.name} trains with {kind}, which keeps no "
                "mean momentum of a unit and no mean of inputs. Call rewriter.rewrite(model, optimizer=...) with a "
                f"{keras.LIBRARY}.JointMomentum(...) or {keras.LIBRARY}.Centered(...), or leave it out."
            )
        keras.build_slots(optimizer, keras.trained_variables(self.model))
        trained = {id(variable) for variable in keras.trained_variables(self.model)}
        self._watched = [
            _Watched(
                "/".join(filter(None, [found.paths[0], layout.attribute.removeprefix("augmented_kernel").strip("_")])),
                kernel,
                optimizer.slot("momentums", kernel) if joint else None,
                observer_of(optimizer, kernel),
            )
            for found in locate_layers(self.model)
            for layout, kernel in zip(layouts_in(found.layer), augmented_kernels(found.layer), strict=True)
            if id(kernel) in trained
        ]
        self._batches = 0
        # Every worker trains alike; one of them writes.
        if keras.is_chief(self.model):
            from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: PLC0415  an optional extra

            self._writer = EventFileWriter(str(self.log_dir / _FOLDER))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Remember the weights, where the step is one to write."""
        del batch, logs
        if self._batches % self.every == 0 and self._writer is not None:
            keras.put_values_in_place(self.model)
            self._before = [keras.ops.convert_to_numpy(each.kernel).copy() for each in self._watched]
        self._batches += 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write what the step did."""
        del batch, logs
        if not self._before:
            return
        keras.put_values_in_place(self.model)
        # By NumPy, as TensorBoard itself can: TensorFlow's own operations take ten times as long, or have to be traced.
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415  an optional extra
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb  # noqa: PLC0415  an optional extra
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb  # noqa: PLC0415  an optional extra

        summaries, step = [], int(self.model.optimizer.iterations)
        for each, before in zip(self._watched, self._before, strict=True):
            update = np.linalg.norm(keras.ops.convert_to_numpy(each.kernel) - before, axis=0)
            summaries.append(histogram_pb(f"{each.name}/update_norm", update))
            if each.momentum is not None:
                summaries.append(histogram_pb(f"{each.name}/mean_momentum", keras.ops.convert_to_numpy(each.momentum)))
            if each.observer is not None:
                norm = np.linalg.norm(keras.ops.convert_to_numpy(each.observer.mean(each.observer.seen.dtype)))
                summaries.append(scalar_pb(f"{each.name}/input_mean_norm", norm))
        for summary in summaries:
            self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._before = []

    def on_train_end(self, logs: Any = None) -> None:
        """Write what is left, and let go of the model's variables."""
        del logs
        if self._writer is not None:
            self._writer.close()
        self._writer, self._watched, self._before = None, [], []
