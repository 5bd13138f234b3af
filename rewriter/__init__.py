"""Rewrite a Keras model so that its optimizer sees each layer whole: ``W* = [W; b]``, one variable a layer.

    model = rewriter.rewrite(model)         # merge each kernel and bias; centered joint momentum
    model.fit(...)                          # ordinary Keras from here on
    rewriter.export(model, "tuned.keras")   # plain Keras again, bit for bit

The public names are listed in ``__init__.pyi``. Importing this package imports no Keras. The functions take a model of
tf-keras or of Keras 3. Classes, such as ``JointMomentum``, are those for tf-keras, and those for Keras 3 are in
``rewriter.keras3``.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

import lazy_loader
import wrapt

from rewriter.choice import BY_FILE, BY_MODEL, Chosen
from rewriter.core import errors
from rewriter.core.keras_packages import KERAS, LIBRARY, TF_KERAS
from rewriter.core.suggestions import closest, did_you_mean
from rewriter.version import __version__ as __version__

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Modules that files of rewritten models name, and where they are now: users' files stay readable whatever moves.
NAMED_IN_FILES = {
    "augmented": "model.augmented_layers",
    "centered": "optimizers.centered.optimizer",
    "hidden": "files.nested_layers",
    "joint_momentum": "optimizers.joint_momentum",
    "kfac": "optimizers.rules.kfac",
    "muon": "optimizers.rules.muon",
    "quasi_diagonal": "optimizers.rules.quasi_diagonal",
    "soap": "optimizers.rules.soap",
}
# What must be there before Keras reads a model, trains one, or saves one.
WITH_KERAS = (*NAMED_IN_FILES.values(), "optimizers.build_guard", "files.weights", "files.writing")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{did_you_mean(closest(name, __all__))}")
    if name == "keras3":
        return importlib.import_module(LIBRARY[KERAS])
    if name in BY_MODEL | BY_FILE:
        return _CHOSEN[name]
    return _import(name) if hasattr(errors, name) else _of(TF_KERAS, name)


def _of(package: str, name: str) -> Any:
    """Return a public name for the Keras of a package."""
    if package == KERAS:
        try:
            return getattr(importlib.import_module(LIBRARY[KERAS]), name)
        except (ImportError, AttributeError) as error:
            version = importlib.import_module(KERAS).__version__
            raise errors.ModelError(
                f"Keras {version} lacks what is needed here, {error}: pip install -U keras, and start again."
            ) from error
    importlib.import_module("tf_keras")  # first: _register imports modules then, and this one may be among them
    found = _import(name)
    globals().pop(name, None)  # where the loader leaves a function whose module has the same name
    return found


_CHOSEN = {name: Chosen(name, _of) for name in BY_MODEL | BY_FILE}


@wrapt.when_imported("keras")
def _register_keras3(_: Any) -> None:
    # TensorFlow imports Keras 3 for itself. One that is too old for us must not keep tf-keras from working: whoever has
    # a model of it is told when he gives it to us.
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module(LIBRARY[KERAS])


@wrapt.when_imported("tf_keras")
def _register(_: Any) -> None:
    # tf_keras.models.load_model reads a rewritten file of any format, however early or late tf_keras is imported.
    for module in WITH_KERAS:
        importlib.import_module(f"{__name__}.{module}")
    for name, place in NAMED_IN_FILES.items():
        sys.modules[f"{__name__}.{name}"] = sys.modules[f"{__name__}.{place}"]
