"""Everything that is asked of a Keras, behind one interface: ``from rewriter.adapters import keras``.

Here, and nowhere else, it is chosen which Keras answers. The questions are in ``protocol.py``, those that not every
Keras can answer in ``capabilities.py``; the adapters are the packages in this folder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeVar

from rewriter.core.errors import ModelError
from rewriter.core.keras_packages import CALLED

if TYPE_CHECKING:
    from . import keras3, tf_keras
    from .protocol import Keras
    from .tf_keras import Callback, CenteredBase, DecayBase, LayerBase, OptimizerBase

    # The type checker says which questions an adapter does not answer.
    keras: Keras = tf_keras
    _other: Keras = keras3

__all__ = ["Callback", "CenteredBase", "DecayBase", "LayerBase", "OptimizerBase", "keras", "required"]

# Every module of the library is there twice: in `rewriter` for tf-keras, in `rewriter.keras3` for Keras 3.
_ADAPTER, _FRAMEWORK = ("keras3", "keras") if __name__.startswith("rewriter.keras3.") else ("tf_keras", "tf_keras")
_BASES = {"Callback", "CenteredBase", "DecayBase", "LayerBase", "OptimizerBase"}  # of the classes that Keras calls
_Capability = TypeVar("_Capability")


def __getattr__(name: str) -> Any:
    if name not in {"keras", *_BASES}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    adapter = importlib.import_module(f"{__name__}.{_ADAPTER}")
    return adapter if name == "keras" else getattr(adapter, name)


def required(capability: _Capability | None, what: str, instead: str = "take a model of tf-keras") -> _Capability:
    """Return an optional capability of a Keras; ``ModelError`` where it has none.

    Args:
        capability: One of ``keras.graphs``, ``keras.checkpoints`` and so on.
        what: What needs it, for the message.
        instead: What to do without it, for the message.
    """
    if capability is None:
        backend = importlib.import_module(_FRAMEWORK).backend.backend()
        raise ModelError(f"{what} is not there for {CALLED[_FRAMEWORK]} on {backend}: {instead}.")
    return capability


# Keep this last. Importing tf_keras makes rewriter import its upper packages, and they import `keras` from here. It is
# imported before any module of ours, as one in the middle of its own import could not be imported by them.
importlib.import_module(_FRAMEWORK)
