"""From the coordinates of the weights to those in which the inputs have no mean, and back, for one layer.

There, ``b' = b + mᵀ W``. So a gradient ``(G_W, G_b)`` is ``(G_W - m ⊗ G_b, G_b)`` there, and a step ``(ΔW, Δb')`` that
is taken there is ``(ΔW, Δb' - mᵀ ΔW)`` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...model.observation.inputs import Observer


def changed_gradient(
    observer: Observer, gradient: Any, sign: int = -1, of_mean: Callable[[Any], Any] = lambda mean: mean
) -> Any:
    """Return ``(G_W - m ⊗ G_b, G_b)``, for a gradient or a sum of gradients.

    Args:
        observer: What the layer saw.
        gradient: Tensor of the shape of ``W*``.
        sign: 1 takes it back.
        of_mean: What is taken in place of the mean, a function of that number by number.
    """
    layout = observer.layout
    kernel, bias = gradient[layout.kernel_rows], gradient[layout.bias_rows]
    if observer.reads_features:
        return keras.ops.add_outer(gradient, of_mean(observer.padded_mean(gradient.dtype)), bias, sign)
    mean = of_mean(observer.mean(gradient.dtype))
    if observer.flow.by_unit:
        beside = observer.flow.beside_units(mean, layout.units) * bias
    else:
        above = observer.flow.above_biases(mean, observer.biases)
        left = keras.ops.transpose(above)
        beside = left * bias if observer.biases == 1 else keras.ops.matmul(left, bias)
    return keras.ops.concatenate([kernel + sign * beside, bias], axis=0)


def changed_step(observer: Observer, step: Any, sign: int = -1) -> Any:
    """Return ``(ΔW, Δb + mᵀ ΔW)``, for a step or a sum of steps.

    Args:
        observer: What the layer saw.
        step: Tensor of the shape of ``W*``.
        sign: 1 takes it back.
    """
    layout = observer.layout
    bias = step[layout.bias_rows] - sign * to_subtract(observer, step)
    return keras.ops.concatenate([step[layout.kernel_rows], bias], axis=0)


def to_subtract(observer: Observer, moved: Any, scale: Any = None) -> Any:
    """Return what is to be subtracted from the bias rows for a step that was taken in the other coordinates.

    That is ``mᵀ ΔW``, and what the bias's own scale adds to its step.

    Args:
        observer: What the layer saw.
        moved: ``(ΔW, Δb')``, a tensor of the shape of ``W*``.
        scale: By how much more than 1 the bias's own step is multiplied.
    """
    layout = observer.layout
    if observer.reads_features:
        row = observer.padded_mean(moved.dtype)
        if scale is not None:
            row = row - scale * observer.last(moved.dtype)
        return keras.ops.matmul(row, moved)
    mean = observer.mean(moved.dtype)
    if observer.flow.by_unit:
        beside = observer.flow.beside_units(mean, layout.units)
        subtracted = keras.ops.sum(beside * moved[layout.kernel_rows], axis=0, keepdims=True)
        return subtracted if scale is None else subtracted - scale * moved[layout.bias_rows]
    # Of all rows at once, as XLA would copy a slice before it multiplies.
    own = keras.ops.eye(observer.biases, dtype=moved.dtype)
    own = keras.ops.zeros_like(own) if scale is None else -scale * own
    above = observer.flow.above_biases(mean, observer.biases)
    return keras.ops.matmul(keras.ops.concatenate([above, own], axis=1), moved)


def mean_outputs(observer: Observer, weights: Any) -> Any:
    """Return ``b' = b + mᵀ W``, the mean of what flows into each unit, of shape ``(bias rows, units)``.

    Args:
        observer: What the layer saw.
        weights: ``W*``, a tensor.
    """
    layout, mean = observer.layout, observer.mean(weights.dtype)
    kernel, bias = weights[layout.kernel_rows], weights[layout.bias_rows]
    if observer.flow.by_unit:
        beside = observer.flow.beside_units(mean, layout.units)
        return bias + keras.ops.sum(beside * kernel, axis=0, keepdims=True)
    return bias + keras.ops.matmul(observer.flow.above_biases(mean, observer.biases), kernel)
