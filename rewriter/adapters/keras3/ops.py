"""Array operations: those of ``keras.ops``, and a few that are not there under these names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import keras
from keras.ops import (
    all,  # noqa: A004
    broadcast_to,
    cast,
    cholesky,
    concatenate,
    convert_to_tensor,
    divide_no_nan,
    einsum,
    equal,
    expand_dims,
    flip,
    isfinite,
    matmul,
    maximum,
    mean,
    minimum,
    mod,
    ones,
    ones_like,
    power,
    qr,
    reshape,
    shape,
    solve_triangular,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    sum,  # noqa: A004
    trace,
    transpose,
    where,
    zeros,
    zeros_like,
)

from rewriter.core import arrays

from .classes import TENSORS

if keras.config.backend() == "torch":  # the operations of a step, and faster
    from .fused.torch_ops import cast, convert_to_tensor, divide_no_nan, matmul, maximum, minimum, split, zeros_like

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "add_outer",
    "all",
    "broadcast_to",
    "cast",
    "cholesky",
    "concatenate",
    "cond",
    "convert_to_numpy",
    "convert_to_tensor",
    "divide_no_nan",
    "eigh",
    "einsum",
    "equal",
    "expand_dims",
    "eye",
    "flatten",
    "flip",
    "is_floating",
    "isfinite",
    "map_structure",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "mod",
    "norm",
    "ones",
    "ones_like",
    "owns",
    "power",
    "qr",
    "reshape",
    "shape",
    "solve_triangular",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "sum",
    "trace",
    "transpose",
    "where",
    "zeros",
    "zeros_like",
]


def owns(value: Any) -> bool:
    """Tell whether a value is a variable of Keras 3, or a tensor of its backend."""
    return isinstance(value, (keras.Variable, *TENSORS))


def is_floating(value: Any) -> bool:
    """Tell whether a value is a dense tensor of real numbers."""
    dtype = keras.backend.standardize_dtype(value.dtype) if keras.ops.is_tensor(value) else ""
    return bool(keras.backend.is_float_dtype(dtype))


def cond(predicate: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """Return what one of two functions returns; where the truth is known already, only that one is called."""
    if keras.config.backend() == "jax":  # which would compile both anew in each step that is taken eagerly
        import jax  # noqa: PLC0415  of this backend alone

        if isinstance(predicate, jax.Array) and not isinstance(predicate, jax.core.Tracer):
            return yes() if predicate else no()
    return keras.ops.cond(predicate, yes, no)


def eye(size: int, dtype: Any) -> Any:
    """Make an identity matrix."""
    return keras.ops.eye(size, dtype=dtype)


def norm(value: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the Euclidean norm."""
    return keras.ops.norm(value, axis=axis, keepdims=keepdims)


def add_outer(matrix: Any, column: Any, row: Any, scale: int) -> Any:
    """Return ``matrix + scale columnᵀ row``, the column given as a row, its last number 0; the last row stays."""
    if keras.config.backend() == "torch":
        return matrix.addr(column[0], row[0], alpha=scale)
    return matrix + scale * (transpose(column) * row)


def convert_to_numpy(value: Any) -> Any:
    """Read a tensor or variable as an array."""
    # Of a variable Keras on TensorFlow asks in a way that NumPy 2 warns of.
    return keras.ops.convert_to_numpy(convert_to_tensor(value))


def eigh(value: Any) -> tuple[Any, Any]:
    """Return eigenvalues, in rising order, and eigenvectors of a symmetric matrix."""
    return tuple(keras.ops.eigh(value))


def flatten(nest: Any) -> list[Any]:
    """List the leaves of a structure, those of a dict in the order of its keys."""
    return list(keras.tree.flatten(nest))


def map_structure(function: Callable[..., Any], *nests: Any) -> Any:
    """Apply a function to the leaves of structures."""
    return keras.tree.map_structure(function, *nests)


arrays.register(sys.modules[__name__])
