"""Array operations, under the names and with the arguments of ``keras.ops``.

A rule or a layout that is written with these is written for every Keras. Some are here for users' rules alone.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rewriter.core import arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def owns(value: Any) -> bool:
    """Tell whether a value is a tensor or variable of TensorFlow."""
    return isinstance(value, tf.Tensor | tf.Variable | tf.IndexedSlices)


def convert_to_tensor(value: Any, dtype: Any = None) -> Any:
    """Return a value as a tensor; a number is not rounded on the way to its dtype, as ``tf.cast`` would."""
    return tf.convert_to_tensor(value, dtype)


def convert_to_numpy(value: Any) -> Any:
    """Return the numbers of a variable, or of a tensor that is not symbolic, as an array."""
    return value.numpy()


def is_floating(value: Any) -> bool:
    """Tell whether a value is a dense tensor of real numbers."""
    return isinstance(value, tf.Tensor) and bool(value.dtype.is_floating)


def cast(value: Any, dtype: Any) -> Any:
    """Convert a tensor to another dtype."""
    return tf.cast(value, dtype)


def concatenate(values: Sequence[Any], axis: int = -1) -> Any:
    """Join tensors along an axis."""
    return tf.concat(values, axis)


def stack(values: Sequence[Any], axis: int = 0) -> Any:
    """Join tensors along a new axis."""
    return tf.stack(values, axis)


def split(value: Any, indices: Sequence[int], axis: int = 0) -> list[Any]:
    """Cut a tensor before each of some places along an axis."""
    # Read first: tf.split reads a variable by a longer way.
    value = tf.convert_to_tensor(value)
    sizes = [stop - start for start, stop in itertools.pairwise([0, *indices, value.shape[axis]])]
    return list(tf.split(value, sizes, axis))


def transpose(value: Any, axes: Sequence[int] | None = None) -> Any:
    """Reorder the axes of a tensor."""
    return tf.transpose(value, axes)


def reshape(value: Any, shape: Sequence[int]) -> Any:
    """Give a tensor another shape."""
    return tf.reshape(value, shape)


def squeeze(value: Any, axis: int) -> Any:
    """Drop an axis of size 1."""
    return tf.squeeze(value, axis)


def expand_dims(value: Any, axis: int) -> Any:
    """Insert an axis of size 1."""
    return tf.expand_dims(value, axis)


def zeros(shape: Sequence[int], dtype: Any) -> Any:
    """Make a tensor of zeros."""
    return tf.zeros(shape, dtype)


def zeros_like(value: Any) -> Any:
    """Make a tensor of zeros, like another."""
    return tf.zeros_like(value)


def ones(shape: Sequence[int], dtype: Any) -> Any:
    """Make a tensor of ones."""
    return tf.ones(shape, dtype)


def ones_like(value: Any) -> Any:
    """Make a tensor of ones, like another."""
    return tf.ones_like(value)


def eye(size: int, dtype: Any) -> Any:
    """Make an identity matrix."""
    return tf.eye(size, dtype=dtype)


def mean(value: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Average over axes."""
    return tf.reduce_mean(value, axis, keepdims)


def sum(value: Any, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A001  its name in keras.ops
    """Sum over axes."""
    return tf.reduce_sum(value, axis, keepdims)


def matmul(one: Any, other: Any) -> Any:
    """Multiply matrices."""
    return tf.matmul(one, other)


def add_outer(matrix: Any, column: Any, row: Any, scale: int) -> Any:
    """Return ``matrix + scale columnᵀ row``, the column given as a row, its last number 0; the last row stays."""
    return tf.concat([matrix[:-1] + scale * (tf.transpose(column[:, :-1]) * row), matrix[-1:]], axis=0)


def einsum(subscripts: str, *values: Any) -> Any:
    """Multiply and sum as subscripts say."""
    return tf.einsum(subscripts, *values)


def square(value: Any) -> Any:
    """Square each number."""
    return tf.square(value)


def power(value: Any, exponent: Any) -> Any:
    """Raise each number to a power."""
    return tf.pow(value, exponent)


def mod(value: Any, by: Any) -> Any:
    """Return the remainder of a division, of the sign of the divisor."""
    return tf.math.floormod(value, by)


def flip(value: Any, axis: int) -> Any:
    """Reverse the order along an axis."""
    return tf.reverse(value, [axis])


def sqrt(value: Any) -> Any:
    """Take the square root of each number."""
    return tf.sqrt(value)


def divide_no_nan(value: Any, by: Any) -> Any:
    """Divide, with 0 for what is divided by 0."""
    return tf.math.divide_no_nan(value, by)


def all(value: Any) -> Any:  # noqa: A001  its name in keras.ops
    """Tell whether all values are true."""
    return tf.reduce_all(value)


def isfinite(value: Any) -> Any:
    """Tell which numbers are finite."""
    return tf.math.is_finite(value)


def equal(one: Any, other: Any) -> Any:
    """Compare two tensors, number by number."""
    return tf.equal(one, other)


def maximum(one: Any, other: Any) -> Any:
    """Take the larger of two tensors, number by number."""
    return tf.maximum(one, other)


def minimum(one: Any, other: Any) -> Any:
    """Take the smaller of two tensors, number by number."""
    return tf.minimum(one, other)


def where(condition: Any, one: Any, other: Any) -> Any:
    """Choose between two tensors, number by number."""
    return tf.where(condition, one, other)


def cond(predicate: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """Run one of two functions."""
    return tf.cond(predicate, yes, no)


def norm(value: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the Euclidean norm."""
    return tf.norm(value, axis=axis, keepdims=keepdims)


def qr(value: Any) -> tuple[Any, Any]:
    """Return the QR decomposition of a matrix."""
    return tuple(tf.linalg.qr(value))


def eigh(value: Any) -> tuple[Any, Any]:
    """Return eigenvalues, in rising order, and eigenvectors of a symmetric matrix."""
    return tuple(tf.linalg.eigh(value))


def trace(value: Any) -> Any:
    """Sum the diagonal of a matrix."""
    return tf.linalg.trace(value)


def cholesky(value: Any) -> Any:
    """Return the lower Cholesky factor of a matrix."""
    return tf.linalg.cholesky(value)


def solve_triangular(factor: Any, right: Any, lower: bool = False) -> Any:
    """Solve a triangular system."""
    return tf.linalg.triangular_solve(factor, right, lower=lower)


def shape(value: Any) -> Any:
    """Return the sizes of a tensor's axes: numbers where they are known, else what they are in the graph."""
    known, found = value.shape, tf.shape(value)
    return [found[axis] if size is None else size for axis, size in enumerate(known)]


def broadcast_to(value: Any, shape: Any) -> Any:
    """Repeat a tensor along axes of size 1."""
    return tf.broadcast_to(value, shape)


def flatten(nest: Any) -> list[Any]:
    """List the leaves of a structure, those of a dict in the order of its keys."""
    return list(tf.nest.flatten(nest))


def map_structure(function: Callable[..., Any], *nests: Any) -> Any:
    """Apply a function to the leaves of structures."""
    return tf.nest.map_structure(function, *nests)


arrays.register(sys.modules[__name__], first=True)  # before Keras 3, which works with its tensors too
