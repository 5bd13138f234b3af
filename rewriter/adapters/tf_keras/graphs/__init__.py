"""Optional: what is asked of a tensor in a graph."""

from .context import factors_of, is_sum_of, with_shape

__all__ = [
    "factors_of",
    "is_sum_of",
    "with_shape",
]
