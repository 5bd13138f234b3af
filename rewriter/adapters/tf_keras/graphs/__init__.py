"""Optional: the graphs of functions that users have traced."""

from .context import is_sum_of, with_shape
from .functions import has_traced, is_traced_function, put_traces, take_traces

__all__ = [
    "has_traced",
    "is_sum_of",
    "is_traced_function",
    "put_traces",
    "take_traces",
    "with_shape",
]
