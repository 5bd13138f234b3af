"""How two arrays are compared, by the check and by ``verify``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Difference:
    """How far apart two arrays are.

    Attributes:
        identical: They are the same bit for bit, shape and dtype included; so NaN equals itself.
        explained: They differ by no more than the rounding of their dtype explains.
        largest: The largest absolute difference; NaN where shapes, dtypes or the places of NaN differ.
    """

    identical: bool
    explained: bool
    largest: float


SAME = Difference(identical=True, explained=True, largest=0.0)
# Whole numbers as large as a number of some dtype, which are equal if all bits are.
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
INCOMPARABLE = Difference(identical=False, explained=False, largest=float("nan"))


def compare(a: Any, b: Any, terms: int = 1) -> Difference:
    """Compare two arrays.

    Args:
        a: An array or tensor.
        b: Another.
        terms: How many products were summed for each number: so many times it may have been rounded.

    Returns:
        Their :class:`Difference`.
    """
    left, right = as_array(a), as_array(b)
    if left.shape != right.shape or left.dtype != right.dtype:
        return INCOMPARABLE
    if left.dtype == object:  # strings
        return SAME if np.array_equal(left, right) else INCOMPARABLE
    if _has_same_bits(left, right):
        return SAME
    dtype = keras.dtype_of(left.dtype)
    if not dtype.is_floating:
        return INCOMPARABLE
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    nan = np.isnan(wide_left)
    if not np.array_equal(nan, np.isnan(wide_right)):
        return INCOMPARABLE
    same = nan | (wide_left == wide_right)
    with np.errstate(invalid="ignore"):
        largest = float(np.where(same, 0.0, np.abs(wide_left - wide_right)).max(initial=0.0))
    scale = float(np.where(np.isfinite(wide_left), np.abs(wide_left), 0.0).max(initial=0.0))
    rounding = float(np.abs(dtype.as_numpy_dtype(1) - np.nextafter(dtype.as_numpy_dtype(1), dtype.as_numpy_dtype(2))))
    return Difference(identical=False, explained=largest <= 4 * terms * rounding * scale, largest=largest)


def as_array(value: Any) -> Any:
    """Return a tensor as an array, without a copy if possible."""
    if keras.is_tensor(value):
        with contextlib.suppress(BufferError, RuntimeError, TypeError, ValueError):
            return np.asarray(memoryview(value))
    return keras.ops.convert_to_numpy(value) if keras.ops.owns(value) else np.asarray(value)


def _has_same_bits(left: Any, right: Any) -> bool:
    size = left.dtype.itemsize
    if size not in _WORDS or not (left.flags.c_contiguous and right.flags.c_contiguous):
        return bool(left.tobytes() == right.tobytes())
    return np.array_equal(left.reshape(-1).view(_WORDS[size]), right.reshape(-1).view(_WORDS[size]))


def compare_all(a: Sequence[Any], b: Sequence[Any], terms: int = 1) -> Difference:
    """Compare two lists of arrays, one by one: the worst of their differences."""
    if len(a) != len(b):
        return INCOMPARABLE
    differences = [compare(one, other, terms) for one, other in zip(a, b, strict=True)]
    return max(differences, key=lambda one: (not one.explained, not one.identical, one.largest), default=SAME)


def arrays_of(nest: Any) -> list[Any]:
    """Read the tensors in a nest, as models return them, as arrays; of ragged and sparse ones, their values.

    What is no tensor, such as a distribution, has nothing to compare and is left out.
    """
    tensors = [keras.values_of(tensor) for tensor in keras.ops.flatten(nest)]
    return [
        as_array(tensor)
        for tensor in tensors
        if isinstance(tensor, np.ndarray) or keras.is_tensor(tensor) or keras.is_variable(tensor)
    ]
