"""The classes that this library's own inherit from: hooks that tf-keras calls, handed to methods that know no Keras."""

from rewriter.adapters.tf_keras.bases.centered_base import CenteredBase
from rewriter.adapters.tf_keras.bases.layer_base import LayerBase
from rewriter.adapters.tf_keras.bases.optimizer_base import DecayBase, OptimizerBase

__all__ = ["CenteredBase", "DecayBase", "LayerBase", "OptimizerBase"]
