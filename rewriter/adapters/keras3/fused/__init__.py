"""Optional: joint momentum in few passes over memory, and on torch in few calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from ..classes import TENSORS
from ..corrected_steps import subtract_from_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rewriter.core.layout import Layout


def _on_torch() -> bool:
    return bool(keras.config.backend() == "torch")


def product_is_exact() -> bool:
    """Tell whether the product's gradients are bit for bit those of a kernel and a bias by themselves."""
    return _on_torch()


def takes_product(inputs: Any) -> bool:
    """Tell whether a layer computes by :func:`product`: on torch and TensorFlow, where views of a variable cost passes.

    On torch not in float64, which Keras itself multiplies in float32 there.
    """
    dense = TENSORS[1]  # of the backend: no symbolic, sparse or ragged one
    if keras.config.backend() == "jax" or not isinstance(inputs, dense):
        return False
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    return keras.backend.is_float_dtype(dtype) and not (_on_torch() and dtype == "float64")


def product(inputs: Any, augmented: Any, layout: Layout, twin: Any = None, mean: Any = None, made: Any = None) -> Any:
    """Multiply the input of a Dense layer by its augmented kernel.

    Args:
        inputs: The input, of the dtype of the kernel.
        augmented: The augmented kernel.
        layout: Its layout.
        twin: Of no meaning here, as are the others.
        mean: As ``twin``.
        made: As ``twin``.
    """
    del layout, twin, mean, made
    if _on_torch():
        from .torch_steps import Product  # noqa: PLC0415  of this backend alone

        return Product.apply(inputs, augmented)
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    from .tensorflow_product import product as of_tensors  # noqa: PLC0415  of this backend alone

    return of_tensors(inputs, tf.convert_to_tensor(augmented))


def updates_together() -> bool:
    """Tell whether joint momentum moves all layers in one call: on torch, where each call is made by itself."""
    return _on_torch()


def update_together(steps: Sequence[tuple[Any, Any, Any, Any]], rate: Any, momentum: float, nesterov: bool) -> None:
    """Take the steps of :func:`update` on several layers, each given as variable, slot, gradient and inputs."""
    from .torch_steps import update_together as together  # noqa: PLC0415  of this backend alone

    inner = [(variable.value.data, slot.value.data, gradient, inputs) for variable, slot, gradient, inputs in steps]
    together(inner, float(rate), momentum, nesterov)


def velocity_step(optimizer: Any, gradient: Any, variable: Any, rows: slice, correction: Callable[[Any], Any]) -> bool:
    """Return ``False``: no step was taken."""
    del optimizer, gradient, variable, rows, correction
    return False


def update(
    variable: Any, slot: Any, gradient: Any, rate: Any, momentum: Any, nesterov: bool, inputs: Any = None
) -> None:
    """Take a step of joint momentum, ``W* ← W* - rate (G + μ m̄)``, ``m̄ ← mean(G) + μ m̄``.

    Args:
        variable: The augmented kernel, of shape ``(rows, units)``.
        slot: The mean momentum, of shape ``(units,)``.
        gradient: The gradient ``G``.
        rate: The learning rate.
        momentum: The momentum ``μ``.
        nesterov: Whether the step looks ahead: ``m̄`` is made first, and moves the weights.
        inputs: In centered coordinates, the mean of what each kernel row reads and a zero, of shape ``(1, rows)``.
    """
    ops = keras.ops
    rows = gradient.shape[0]
    found = momentum * ops.convert_to_tensor(slot)
    if inputs is None:
        mean, beside = ops.mean(gradient, axis=0), None
    else:
        # The mean, and with it the mean of the inputs times the gradient, in one pass.
        averages = ops.full((1, rows), 1 / rows, dtype=gradient.dtype)
        summed = ops.matmul(ops.concatenate([averages, inputs], axis=0), gradient)
        mean, beside = summed[0], summed[1:]
    made = mean + found
    moving = momentum * made if nesterov else found
    variable.assign_sub(rate * (gradient + moving))
    slot.assign(made)
    if beside is not None:
        subtract_from_rows(variable, slice(rows - 1, rows), -rate * (beside + ops.sum(inputs) * moving))
