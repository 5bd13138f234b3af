"""Several devices and workers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from collections.abc import Sequence


def strategy_of(holder: Any) -> Any:
    """Return the strategy of TensorFlow under which a model, an optimizer or a variable was made, ``None`` for none."""
    if keras.config.backend() != "tensorflow":
        return None
    of_variable = getattr(getattr(holder, "_value", None), "distribute_strategy", None)
    found = (of_variable, *(getattr(holder, name, None) for name in _KEPT))
    return next((each for each in found if each is not None and type(each).__name__ != _NONE), None)


# Where models and optimizers keep their strategy, and the class of the one that stands for none.
_KEPT = ("_distribute_strategy", "_distribution_strategy")
_NONE = "_DefaultDistributionStrategy"


def layout_for(name: str, shape: Sequence[int]) -> Any:
    """Return how a layout map lays out a variable of some name over devices, ``None`` where it says nothing of it.

    A map of ``.*kernel`` names augmented kernels too. These have one row more than a kernel, and two axes, whatever it
    has: an axis that the devices do not divide is not divided, and of more axes the last one counts.
    """
    layouts = getattr(keras.distribution.distribution(), "_layout_map", None)
    found = None if layouts is None else layouts[name]
    if found is None:
        return None
    axes = found.axes if len(found.axes) == len(shape) else (*[None] * (len(shape) - 1), found.axes[-1])
    counts = dict(zip(found.device_mesh.axis_names, found.device_mesh.shape, strict=True))
    fitting = [
        axis if axis is None or size % counts[axis] == 0 else None for axis, size in zip(axes, shape, strict=True)
    ]
    return keras.distribution.TensorLayout(fitting, found.device_mesh)


def strategy_scope(holder: Any) -> Any:
    """Make variables under the strategy of a model, an optimizer or a variable."""
    strategy = strategy_of(holder)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def in_foreign_scope(holder: Any) -> bool:
    """Tell whether the strategy that is active here is not the one under which something was made."""
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    return bool(tf.distribute.has_strategy()) and tf.distribute.get_strategy() is not strategy_of(holder)


def sum_over_replicas(tensors: Sequence[Any]) -> Sequence[Any]:
    """Add up tensors over the replicas of a strategy of TensorFlow, each of which sees other inputs.

    In other ways of distribution a sum over a batch is one over all of it.
    """
    if keras.config.backend() != "tensorflow" or not tensors:
        return tensors
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensors
    summed: Sequence[Any] = context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))
    return summed


def replica_of_update() -> Any:
    """Return the number of the replica whose copy of a variable is moved now, ``None`` where there is one only."""
    if keras.config.backend() != "tensorflow":
        return None
    import tensorflow as tf  # noqa: PLC0415  of this backend alone
    from tensorflow.python.distribute import distribute_lib  # noqa: PLC0415  of this backend alone

    return distribute_lib.get_update_replica_id() if tf.distribute.has_strategy() else None


def is_chief(holder: Any) -> bool:
    """Tell whether this process writes the files."""
    del holder
    return True
