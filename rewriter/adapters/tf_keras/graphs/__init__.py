"""Optional: traces of models, for discovery, and functions that users have traced."""

from rewriter.adapters.tf_keras.graphs.context import is_sum_of, with_shape
from rewriter.adapters.tf_keras.graphs.functions import has_traced, is_traced_function, put_traces, take_traces
from rewriter.adapters.tf_keras.graphs.trace import dataflow, specs_like

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
