"""What rules need of matrices that they decompose."""

from __future__ import annotations

from typing import Any

from ...adapters import keras


def finite_or_identity(matrix: Any) -> Any:
    """Return a square matrix, or an identity where some number of it is not finite.

    Decompositions of those raise errors of their own, where a loss that is not a number should be seen.
    """
    ops = keras.ops
    finite = ops.all(ops.isfinite(matrix))
    return ops.where(finite, matrix, ops.eye(matrix.shape[0], matrix.dtype))
