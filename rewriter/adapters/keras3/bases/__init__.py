"""The classes that Keras 3 calls, each handing what it is called with to methods that know no Keras."""

from .layer_base import LayerBase
from .optimizer_base import CenteredBase, DecayBase, OptimizerBase

__all__ = ["CenteredBase", "DecayBase", "LayerBase", "OptimizerBase"]
