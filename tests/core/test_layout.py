"""The layout: stacking and unstacking are copies, and the bias is the last row."""

import numpy as np
import pytest
import tensorflow as tf

from arrays import bits
from rewriter import Layout, Part, layout_of


def dense_layout(fan_in, units):
    return Layout((Part("kernel", "d/kernel", (fan_in, units), 0), Part("bias", "d/bias", (units,), 1)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("fan_in", "units"), [(1, 1), (1, 4), (5, 1), (6, 3)])
def test_unstack_inverts_stack_bit_for_bit(generator, dtype, fan_in, units):
    """unstack(stack(parts)) == parts in every bit, signed zeros and NaN included."""
    kernel = generator.standard_normal((fan_in, units))
    kernel.flat[0] = -0.0
    bias = np.full(units, np.nan)
    values = [tf.cast(kernel, dtype), tf.cast(bias, dtype)]
    layout = dense_layout(fan_in, units)
    stacked = layout.stack(values)
    assert tuple(stacked.shape) == layout.shape == (fan_in + 1, units)
    assert [bits(value) for value in layout.unstack(stacked)] == [bits(value) for value in values]


def test_bias_is_the_last_row():
    """The rows of a W* are the kernel's, then one of bias, as NumPy stacks them."""
    layout = dense_layout(3, 2)
    kernel, bias = np.arange(6.0).reshape(3, 2), np.array([10.0, 11.0])
    stacked = layout.stack([kernel, bias]).numpy()
    assert bits(stacked) == bits(np.vstack([kernel, bias]))
    assert bits(stacked[layout.bias_rows]) == bits(bias[None])
    assert bits(stacked[layout.kernel_rows]) == bits(kernel)
    assert (layout.units, layout.incoming_axis, layout.name) == (2, 0, "d/augmented_kernel")


def test_layout_of_answers_for_augmented_kernels_alone():
    """A variable has a layout if it was marked with one, and None otherwise."""
    plain, marked = tf.Variable(tf.zeros((4, 2))), tf.Variable(tf.zeros((4, 2)))
    layout = dense_layout(3, 2)
    layout.attach(marked)
    assert layout_of(plain) is None
    assert layout_of(marked) is layout
