"""The same library for models of Keras 3: every module of it, with Keras 3 behind the adapter.

The modules of the library import each other by relative names, so they can be read a second time, from the same files,
as modules of this package. ``rewriter.keras3.JointMomentum`` has the body of ``rewriter.JointMomentum``, and is an
optimizer of Keras 3. ``rewriter.core``, which knows no Keras, is there once for both.

Functions of ``rewriter`` itself, such as ``rewriter.rewrite``, look at the model and take either Keras. Optimizers,
callbacks and ``testing`` for Keras 3 are to be had here.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import lazy_loader
import wrapt

import rewriter
from rewriter.core import errors, layout

_LIBRARY = Path(__file__).parents[1]
__path__ = [str(_LIBRARY)]

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, str(_LIBRARY / "__init__.py"))


def __getattr__(name: str) -> Any:
    of_no_keras = next((each for each in (errors, layout) if hasattr(each, name)), None)
    return _import(name) if of_no_keras is None else getattr(of_no_keras, name)


@wrapt.when_imported("keras")
def _register(_: Any) -> None:
    for module in rewriter.WITH_KERAS:
        importlib.import_module(f"{__name__}.{module}")
    for name, place in rewriter.NAMED_IN_FILES.items():
        sys.modules[f"{__name__}.{name}"] = sys.modules[f"{__name__}.{place}"]
