"""Optional: what is asked of a tensor in a graph."""

from .context import is_sum_of, with_shape

__all__ = [
    "is_sum_of",
    "with_shape",
]
