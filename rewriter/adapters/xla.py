"""Whether XLA compiles what TensorFlow traces now, whichever Keras asks."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext


def is_compiled_by_xla() -> bool:
    """Tell whether what is traced now is inside a ``tf.function(jit_compile=True)``."""
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def decomposes_slowly() -> bool:
    """Tell whether it is compiled for a CPU, where TensorFlow's XLA has no LAPACK: ``eigh`` takes 20 times as long."""
    return is_compiled_by_xla() and not tf.config.list_logical_devices("GPU")
