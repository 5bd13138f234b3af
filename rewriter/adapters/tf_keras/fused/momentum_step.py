"""One step of joint momentum on one layer, with as few passes over memory as TensorFlow allows.

    W* ← W* - η (G + μ 1 m)
    m  ← mean(G) + μ m

``G`` is as large as the layer, ``m`` has one number a unit. Written as it stands it reads or writes something of the
size of the layer eight times and makes a new tensor of that size twice, and on large layers the new tensors cost most:
the memory has to be had from the system, page by page.

Worth, of the time of the update alone under tf-keras SGD with momentum, in a graph on two CPU cores, 1024 by 1024 and
4096 by 4096: as it stands 0.61 and 0.71, :func:`_in_place` 0.61 and 0.68, and 0.40 and 0.14 compiled by XLA. A whole
step of four layers of 1024 by 1024, 32 rows, took 0.95 under the rule as it stands, 0.88 under :func:`_by_factors`; one
of 40 layers of 64 by 64, 0.77 under :func:`_in_place` and 0.85 under :func:`_by_factors`.

In centered coordinates, with ``m̂`` the mean of the layer's inputs and ``G`` the gradient there, the bias row moves by
``-m̂ᵀ ΔW`` too, which is ``η (m̂ᵀ G_W + μ Σ m̂ m)``: one more row in the product that makes the mean.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ... import xla
from ..corrected_steps import without_rows
from ..graphs import context

# From how many numbers in W* on passes over it cost more than the operations that save them.
_LARGE = 2**18


def fused_update(
    variable: Any, slot: Any, gradient: Any, rate: Any, momentum: Any, nesterov: bool, inputs: Any = None
) -> None:
    """Move an augmented kernel and its mean momentum by one step.

    Args:
        variable: ``W*``, of shape ``(incoming, units)``.
        slot: ``m``, of shape ``(units,)``.
        gradient: ``G``, a tensor of the shape of ``W*``.
        rate: η, a scalar tensor.
        momentum: μ, a scalar tensor. All five have one dtype.
        nesterov: Whether ``W*`` moves by the new ``m`` instead of the old one.
        inputs: ``[m̂, 0]``, of shape ``(1, incoming)``, for a step in centered coordinates with one bias row.
    """
    by_xla, large = xla.is_compiled_by_xla(), variable.shape.num_elements() >= _LARGE
    factors = context.factors_of(gradient) if by_xla or large else None
    if factors is not None:
        _by_factors(variable, slot, gradient, factors, rate, momentum, nesterov, inputs)
    elif large and not by_xla and _can_compile_alone():
        _compiled(variable, slot, gradient, rate, momentum, nesterov, inputs)
    else:
        _in_place(variable, slot, gradient, rate, momentum, nesterov, inputs)


def _by_factors(
    variable: Any,
    slot: Any,
    gradient: Any,
    factors: tuple[Any, Any],
    rate: Any,
    momentum: Any,
    nesterov: bool,
    inputs: Any,
) -> None:
    """Make use of what the backward pass multiplies: ``G = Aᵀ B``.

    ``mean(G)`` is the mean of the columns of ``A``, times ``B``. And one more row below each factor, ones below ``A``
    and ``μ m`` below ``B``, makes the product ``G + μ 1 m``, so that ``G`` is never made. XLA adds ``μ 1 m`` to ``G``
    while it descends, which costs less than the rows.
    """
    left, right = factors
    found = momentum * slot
    averaged = tf.reduce_mean(left, axis=1, keepdims=True)
    if inputs is not None:
        averaged = tf.concat([averaged, tf.matmul(left, inputs, transpose_b=True)], axis=1)
    products = tf.matmul(averaged, right, transpose_a=True)
    made = products[0] + found
    moving = momentum * made if nesterov else found
    of_bias = None if inputs is None else _of_bias(products[1], inputs, moving)
    if xla.is_compiled_by_xla():
        delta = _with_bias(tf.nn.bias_add(gradient, moving), of_bias)
    else:
        rows, below = [left, tf.ones((1, variable.shape[0]), left.dtype)], [right, moving[tf.newaxis]]
        if of_bias is not None:
            rows.append(tf.one_hot([variable.shape[0] - 1], variable.shape[0], dtype=left.dtype))
            below.append(-of_bias[tf.newaxis])
        delta = tf.matmul(tf.concat(rows, axis=0), tf.concat(below, axis=0), transpose_a=True)
    _descend(variable, rate, delta)
    slot.assign(made)


def _in_place(variable: Any, slot: Any, gradient: Any, rate: Any, momentum: Any, nesterov: bool, inputs: Any) -> None:
    """Add ``μ m`` to ``G`` where ``G`` is, and descend by TensorFlow's fused operation.

    The addition waits for the mean: as long as that reads ``G``, the sum would need memory of its own.
    """
    found = momentum * slot
    if inputs is None:
        mean, of_inputs = tf.reduce_mean(gradient, axis=0), None
    else:
        averaging = tf.fill(inputs.shape, tf.constant(1 / inputs.shape[1], inputs.dtype))
        mean, of_inputs = tf.unstack(tf.matmul(tf.concat([averaging, inputs], axis=0), gradient))
    made = mean + found
    moving = momentum * made if nesterov else found
    of_bias = None if inputs is None else _of_bias(of_inputs, inputs, moving)
    with tf.control_dependencies([] if tf.executing_eagerly() else [made]):
        delta = tf.nn.bias_add(gradient, moving)
    _descend(variable, rate, _with_bias(delta, of_bias))
    slot.assign(made)


def _compiled(variable: Any, slot: Any, gradient: Any, rate: Any, momentum: Any, nesterov: bool, inputs: Any) -> None:
    """Let XLA compile :func:`_in_place`: it makes no tensor of the size of ``W*`` at all.

    It reads ``G`` a second time, for the mean: of 5.4 ms for reading ``G`` and reading and writing ``W*`` once (4096 by
    4096), to read ``G`` alone takes 2.7, and the mean 3.6. In blocks of rows, mean and descent in one loop, it took
    2.3 times the 5.4 instead of 1.7: XLA shares out no loop among threads.
    """
    # A function for each variable: a shared one would go on asking for the first of its shape when that is gone.
    tf.function(_in_place, jit_compile=True)(variable, slot, gradient, rate, momentum, nesterov, inputs)


def _of_bias(product: Any, inputs: Any, moving: Any) -> Any:
    """Return ``m̂ᵀ G_W + Σ m̂ (μ m)``, by which the bias row descends less."""
    return product + tf.reduce_sum(inputs) * moving


def _with_bias(delta: Any, of_bias: Any) -> Any:
    if of_bias is None:
        return delta
    return without_rows(delta, slice(delta.shape[0] - 1, delta.shape[0]), of_bias[tf.newaxis])


def _can_compile_alone() -> bool:
    return context.can_compile() and not tf.executing_eagerly() and not tf.distribute.has_strategy()


def _descend(variable: Any, rate: Any, delta: Any) -> None:
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=delta)
