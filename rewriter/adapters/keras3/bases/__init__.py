"""The classes that Keras 3 calls, each handing what it is called with to methods that know no Keras."""

from .centered_base import CenteredBase
from .layer_base import LayerBase
from .optimizer_base import DecayBase, OptimizerBase

__all__ = ["CenteredBase", "DecayBase", "LayerBase", "OptimizerBase"]
