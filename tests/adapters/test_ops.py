"""The operations that stand for those of keras.ops, each against NumPy in float64."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rewriter.adapters.tf_keras import ops
from rewriter.core import arrays

NUMBERS = np.random.default_rng(7)
MATRIX = NUMBERS.normal(size=(4, 4))
TALL = NUMBERS.normal(size=(5, 3))
CUBE = NUMBERS.normal(size=(2, 3, 4))
DEFINITE = MATRIX @ MATRIX.T + np.eye(4)
LOWER = np.linalg.cholesky(DEFINITE)

# The call under test, and what NumPy says of the same numbers.
CASES = {
    "convert_to_tensor": (lambda: ops.convert_to_tensor(0.1, "float64"), np.float64(0.1)),
    "cast": (lambda: ops.cast(TALL, "float32"), TALL.astype("float32")),
    "concatenate": (lambda: ops.concatenate([TALL, 2 * TALL], axis=1), np.concatenate([TALL, 2 * TALL], axis=1)),
    "concatenate, last axis": (lambda: ops.concatenate([CUBE, 2 * CUBE]), np.concatenate([CUBE, 2 * CUBE], axis=-1)),
    "stack": (lambda: ops.stack([TALL, 2 * TALL], axis=1), np.stack([TALL, 2 * TALL], axis=1)),
    "stack, first axis": (lambda: ops.stack([TALL, 2 * TALL]), np.stack([TALL, 2 * TALL])),
    "transpose": (lambda: ops.transpose(CUBE, (2, 0, 1)), np.transpose(CUBE, (2, 0, 1))),
    "transpose, all axes": (lambda: ops.transpose(CUBE), np.transpose(CUBE)),
    "reshape": (lambda: ops.reshape(CUBE, (6, -1)), CUBE.reshape(6, -1)),
    "squeeze": (lambda: ops.squeeze(TALL[:, None], 1), TALL),
    "expand_dims": (lambda: ops.expand_dims(TALL, 1), TALL[:, None]),
    "zeros": (lambda: ops.zeros((2, 3), "float64"), np.zeros((2, 3))),
    "zeros_like": (lambda: ops.zeros_like(TALL), np.zeros_like(TALL)),
    "ones": (lambda: ops.ones((2, 3), "float64"), np.ones((2, 3))),
    "eye": (lambda: ops.eye(3, "float64"), np.eye(3)),
    "mean": (lambda: ops.mean(CUBE), CUBE.mean()),
    "mean, axes": (lambda: ops.mean(CUBE, axis=(0, 2), keepdims=True), CUBE.mean(axis=(0, 2), keepdims=True)),
    "sum": (lambda: ops.sum(CUBE), CUBE.sum()),
    "sum, axis": (lambda: ops.sum(CUBE, axis=1, keepdims=True), CUBE.sum(axis=1, keepdims=True)),
    "matmul": (lambda: ops.matmul(TALL, CUBE[0]), TALL @ CUBE[0]),
    "einsum": (lambda: ops.einsum("bij,jk->bik", CUBE, MATRIX), np.einsum("bij,jk->bik", CUBE, MATRIX)),
    "square": (lambda: ops.square(TALL), TALL**2),
    "sqrt": (lambda: ops.sqrt(TALL**2), np.abs(TALL)),
    "where": (lambda: ops.where(TALL > 0, TALL, -2 * TALL), np.where(TALL > 0, TALL, -2 * TALL)),
    "norm": (lambda: ops.norm(TALL), np.sqrt((TALL**2).sum())),
    "norm, axis": (
        lambda: ops.norm(CUBE, axis=2, keepdims=True),
        np.sqrt((CUBE**2).sum(axis=2, keepdims=True)),
    ),
    "cholesky": (lambda: ops.cholesky(DEFINITE), LOWER),
    "solve_triangular": (lambda: ops.solve_triangular(LOWER, TALL[:4], lower=True), np.linalg.solve(LOWER, TALL[:4])),
    "solve_triangular, upper": (
        lambda: ops.solve_triangular(LOWER.T, TALL[:4]),
        np.linalg.solve(LOWER.T, TALL[:4]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operation_means_what_it_means_in_numpy(case):
    call, expected = CASES[case]
    result = call()
    assert (result.shape, result.dtype.as_numpy_dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


def test_a_factorization_gives_its_matrix_again():
    orthogonal, upper = map(np.asarray, ops.qr(TALL))
    np.testing.assert_allclose(orthogonal @ upper, TALL, rtol=1e-12)
    np.testing.assert_allclose(orthogonal.T @ orthogonal, np.eye(3), atol=1e-13)
    assert not np.tril(upper, -1).any()

    values, vectors = map(np.asarray, ops.eigh(DEFINITE))
    np.testing.assert_allclose(vectors * values @ vectors.T, DEFINITE, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(DEFINITE), rtol=1e-12)


@pytest.mark.parametrize("value", [tf.constant(CUBE), tf.Variable(CUBE)], ids=["tensor", "variable"])
@pytest.mark.parametrize(("indices", "axis"), [([1], 0), ([1, 3], 2), ([0, 2], 1), ([], 1)])
def test_split_cuts_before_each_index_as_numpy_does(value, indices, axis):
    parts = ops.split(value, indices, axis)
    for part, expected in itertools.zip_longest(parts, np.split(CUBE, indices, axis)):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_cond_runs_one_of_two(compiled):
    choose = tf.function(ops.cond) if compiled else ops.cond
    one, other = (lambda: tf.constant(1)), (lambda: tf.constant(2))
    assert [int(choose(tf.constant(which), one, other)) for which in (True, False)] == [1, 2]


def test_structures_are_walked_in_the_order_of_their_keys():
    nest = {"b": [1, 2], "a": (3, {"c": 4})}
    assert ops.flatten(nest) == [3, 4, 1, 2]
    assert ops.map_structure(lambda one, other: one - other, nest, nest) == {"b": [0, 0], "a": (0, {"c": 0})}


def test_tensors_are_told_from_other_values():
    assert all(map(ops.owns, [tf.constant(1), tf.Variable(1), tf.IndexedSlices(tf.ones((1, 2)), [0])]))
    assert not any(map(ops.owns, [1, np.ones(2), [tf.constant(1)], None]))
    assert arrays.ops_of(tf.constant(1)) is ops
