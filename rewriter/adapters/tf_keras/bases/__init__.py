"""The classes that this library's own inherit from: hooks that tf-keras calls, handed to methods that know no Keras."""

from .centered_base import CenteredBase
from .layer_base import LayerBase
from .optimizer_base import DecayBase, OptimizerBase

__all__ = ["CenteredBase", "DecayBase", "LayerBase", "OptimizerBase"]
