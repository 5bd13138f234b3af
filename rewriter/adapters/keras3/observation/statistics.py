"""What layers see in training: what is summed in a call, and how a step is corrected for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras.src.backend.common import global_state

from ...outermost_call import told_inference
from ..ops import cond

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def is_training_call() -> bool:
    """Tell whether the call that is under way may be one of training: whether nobody said of the model that it is not.

    What is not known is taken for training: nothing is added unless a gradient is taken too.
    """
    context = global_state.get_global_attribute("current_call_ctx")
    training = None if context is None else context.get_value("training")
    if training is None or not isinstance(training, bool | int) or training:
        return True
    return not told_inference(keras.Layer.__call__, keras.Layer.stateless_call)


def can_have_twin(variable: Any) -> bool:
    """Return ``False``: what flows back to a variable has its shape here."""
    del variable
    return False


def twin_of(variable: Any) -> Any:
    """Return ``None``: there are no twins."""
    del variable


def mask_of(inputs: Any) -> Any:
    """Return the mask that came with an input of a layer, ``None`` where there is none."""
    return keras.src.backend.get_keras_mask(inputs)


def mask_of_outputs(layer: Any, mask: Any) -> Any:
    """Return the mask of a recurrent layer in the order of its outputs: that of its inputs, or the reverse of it."""
    return keras.ops.flip(mask, axis=1) if getattr(layer, "go_backwards", False) else mask


def sum_of_features(inputs: Any, axes: Sequence[int], dtype: Any, guarded: bool, mask: Any = None) -> Any:
    """Add up the features of a layer's input over all its positions, those left out that a mask leaves out.

    Args:
        inputs: A tensor; of a sparse one the zeros too.
        axes: The axes that are features, counted from the end, in the order in which they are wanted; all others are
            positions.
        dtype: In which to add up, whatever the input has.
        guarded: Of no meaning here: where a loss scale skips a step, the optimizer is not called.
        mask: What positions count, along the first axes of ``inputs``; any other mask says nothing of positions.

    Returns:
        A vector: the sum of each feature, and the number of positions.
    """
    del guarded
    ops = keras.ops
    if mask is None and tuple(axes) == (-1,) and keras.config.backend() == "torch":
        from ..fused.torch_steps import sum_of_rows  # noqa: PLC0415  of this backend alone

        return sum_of_rows(inputs, keras.backend.standardize_dtype(dtype))
    values = ops.cast(as_dense(inputs), dtype)
    rank = len(values.shape)
    features = [axis % rank for axis in axes]
    positions = [axis for axis in range(rank) if axis not in features]
    counted = positions
    count = ops.ones((), dtype)
    masked = 0 if mask is None else len(mask.shape)
    if masked and list(range(masked)) == positions[:masked]:
        # Not by a product, in which what is masked would be seen if it is not finite.
        spread = ops.reshape(ops.cast(mask, "bool"), (*ops.shape(mask), *(1,) * (rank - masked)))
        values = ops.where(spread, values, ops.zeros_like(values))
        count, counted = ops.sum(ops.cast(mask, dtype)), positions[masked:]
    for axis in counted:
        count = count * ops.cast(ops.convert_to_tensor(ops.shape(values)[axis]), dtype)
    total = ops.sum(values, axis=tuple(positions))
    if len(features) > 1:
        total = ops.reshape(ops.transpose(total, [sorted(features).index(each) for each in features]), (-1,))
    return ops.concatenate([total, ops.reshape(count, (1,))], axis=0)


def as_dense(inputs: Any) -> Any:
    """Return the positions of a layer's input as a dense tensor."""
    return keras.ops.convert_to_tensor(inputs, sparse=False)


def share_over_replicas(statistics: Sequence[Any]) -> None:
    """Do nothing: what is added to a statistic is summed over the replicas before."""
    del statistics


def decay_statistic(statistic: Any, decay: float, value: Any) -> None:
    """Do nothing: a statistic counts less when the next step adds to it."""
    del statistic, decay, value


def refresh_if(
    predicate: Any, variables: Sequence[Any], read: Callable[[], Any], make: Callable[[Any], Sequence[Any]]
) -> None:
    """Give variables new values where something is true.

    Args:
        predicate: A scalar of truth.
        variables: The variables.
        read: Reads that of which the new values are made: tensors, in any structure.
        make: Makes the new values of that, one for each variable.
    """
    # What is read is read before: XLA would copy all that the branch of a condition reads.
    old = [keras.ops.convert_to_tensor(variable) for variable in variables]
    values = cond(predicate, lambda: list(make(read())), lambda: old)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
