"""Optional: traces of models, for discovery, and functions that users have traced."""

from .context import is_sum_of, with_shape
from .functions import has_traced, is_traced_function, put_traces, take_traces
from .trace import dataflow, specs_like

__all__ = [
    "dataflow",
    "has_traced",
    "is_sum_of",
    "is_traced_function",
    "put_traces",
    "specs_like",
    "take_traces",
    "with_shape",
]
