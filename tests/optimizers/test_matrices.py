"""The decompositions of rules on whole layers, against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from rewriter.optimizers.rules.matrices import inverse_cholesky


@pytest.mark.parametrize("size", [1, 3, 64, 65, 130, 257])
@pytest.mark.parametrize("xla", [False, True])
def test_the_inverse_of_a_cholesky_factor(size, xla):
    random = np.random.default_rng(size)
    factor = random.standard_normal((size, size))
    matrix = factor @ factor.T / size + 0.1 * np.eye(size)
    found = tf.function(inverse_cholesky, jit_compile=xla)(tf.constant(matrix)).numpy()
    expected = np.linalg.inv(np.linalg.cholesky(matrix))
    assert np.abs(found - expected).max() <= 1e-11 * np.abs(expected).max()
    assert not np.triu(found, 1).any()
