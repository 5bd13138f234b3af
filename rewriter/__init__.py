"""Rewrite a Keras model so that its optimizer sees each layer whole: ``W* = [W; b]``, one variable a layer.

    model = rewriter.rewrite(model)         # merge each kernel and bias; attach joint momentum
    model.fit(...)                          # ordinary Keras from here on
    rewriter.export(model, "tuned.keras")   # plain Keras again, bit for bit

The public names are listed in ``__init__.pyi``. Importing this package imports no TensorFlow; the first use of a name
does.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import lazy_loader
import wrapt

from rewriter.core import errors
from rewriter.core.suggestions import closest, did_you_mean
from rewriter.version import __version__ as __version__

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Modules that files of rewritten models name, and where they are now: users' files stay readable whatever moves.
NAMED_IN_FILES = {
    "augmented": "model.augmented_layers",
    "centered": "optimizers.centered.optimizer",
    "hidden": "files.nested_layers",
    "joint_momentum": "optimizers.joint_momentum",
}
# What must be there before Keras reads a model, trains one, or saves one.
WITH_KERAS = (*NAMED_IN_FILES.values(), "optimizers.build_guard", "files.writing")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{did_you_mean(closest(name, __all__))}")
    if not hasattr(errors, name):
        importlib.import_module("tf_keras")  # first: _register imports modules then, and this one may be among them
    return _import(name)


@wrapt.when_imported("tf_keras")
def _register(_: Any) -> None:
    # tf_keras.models.load_model reads a rewritten file of any format, however early or late tf_keras is imported.
    for module in WITH_KERAS:
        importlib.import_module(f"{__name__}.{module}")
    for name, place in NAMED_IN_FILES.items():
        sys.modules[f"{__name__}.{name}"] = sys.modules[f"{__name__}.{place}"]
