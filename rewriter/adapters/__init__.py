"""Everything that is asked of one Keras, behind one interface."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rewriter.adapters import tf_keras
    from rewriter.adapters.protocol import Keras

    _ANSWERS: Keras = tf_keras  # or the type checker says which questions it does not answer

# Keras comes first. When it is imported, rewriter registers what Keras needs to read a rewritten file, and so imports
# modules of the packages above. One of these that is in the middle of its own import could not be imported by them.
# By name, as `tf_keras` here is the adapter.
importlib.import_module("tf_keras")
