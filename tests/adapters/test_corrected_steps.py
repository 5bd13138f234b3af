"""What corrects steps on their way into a variable, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from rewriter.adapters.tf_keras.corrected_steps import corrected_step, subtract_in_place


@pytest.mark.parametrize("way", ["eagerly", "graph", "in place", "XLA"])
@pytest.mark.parametrize("reads", ["shared memory", "copies"])
def test_rows_are_subtracted_from(generator, way, reads):
    """Also where TensorFlow copies a variable to read it, and what changes the copy in place would be lost."""
    start, moved, row = (generator.standard_normal(shape).astype("float32") for shape in ((5, 3), (5, 3), (1, 3)))
    variable = tf.Variable(start)
    if reads == "copies":
        variable.scatter_sub(tf.IndexedSlices(tf.zeros((1, 3)), [0]))
    before = variable.read_value()

    def step():
        if way == "in place":
            variable.assign_add(moved)
            subtract_in_place(variable, slice(4, 5), tf.constant(row))
        else:
            with corrected_step(variable, slice(4, 5), lambda _: tf.constant(row)):
                variable.assign_add(moved)
        return variable + 0.0

    after = (step if way == "eagerly" else tf.function(step, jit_compile=way == "XLA"))()
    expected = start + moved
    expected[4:] -= row
    assert np.allclose(after, expected, rtol=0, atol=1e-6 if way == "XLA" else 0)  # which may add in another order
    assert np.array_equal(variable, after)
    assert np.array_equal(before, start)


@pytest.mark.parametrize("way", ["eagerly", "graph", "XLA"])
def test_what_is_added_is_corrected(generator, way):
    start, moved = (generator.standard_normal((5, 3)).astype("float32") for _ in range(2))
    variable = tf.Variable(start)

    def step():
        with corrected_step(variable, slice(4, 5), lambda value: 2 * value[:1], only_adds=True):
            variable.assign_add(tf.constant(moved))
            variable.assign_sub(tf.constant(3 * moved))

    (step if way == "eagerly" else tf.function(step, jit_compile=way == "XLA"))()
    expected = start.copy()
    for each in (moved, -3 * moved):
        expected = expected + np.vstack([each[:4], each[4:] - 2 * each[:1]])
    assert np.allclose(variable, expected, rtol=0, atol=1e-5)
