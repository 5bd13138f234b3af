"""Rewrite a Keras model so that its optimizer sees each layer whole: ``W* = [W; b]``, one variable a layer.

    model = rewriter.rewrite(model)         # merge each kernel and bias; attach joint momentum
    model.fit(...)                          # ordinary Keras from here on
    rewriter.export(model, "tuned.keras")   # plain Keras again, bit for bit

Importing this package imports no TensorFlow; the first use of a name does.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

import wrapt

from rewriter.version import __version__

if TYPE_CHECKING:
    from rewriter import callbacks
    from rewriter.decisions import Decision, Plan
    from rewriter.errors import (
        DifferenceError,
        FileError,
        ModelError,
        NotMergeableError,
        OptimizerError,
        PairError,
        RewriterError,
        SelectorError,
    )
    from rewriter.joint_momentum import JointMomentum
    from rewriter.joint_optimizer import JointOptimizer
    from rewriter.layout import Layout, Part, layout_of
    from rewriter.planning import plan
    from rewriter.reading import load_model
    from rewriter.rewriting import rewrite
    from rewriter.separating import split, standard_form
    from rewriter.told import pair
    from rewriter.verification import Report, verify
    from rewriter.writing import export, save_model

_MODULES = {
    "errors": (
        "DifferenceError",
        "FileError",
        "ModelError",
        "NotMergeableError",
        "OptimizerError",
        "PairError",
        "RewriterError",
        "SelectorError",
    ),
    "reading": ("load_model",),
    "writing": ("export", "save_model"),
    "joint_momentum": ("JointMomentum",),
    "joint_optimizer": ("JointOptimizer",),
    "layout": ("Layout", "Part", "layout_of"),
    "decisions": ("Decision", "Plan"),
    "planning": ("plan",),
    "rewriting": ("rewrite",),
    "separating": ("split", "standard_form"),
    "told": ("pair", "unpair"),
    "verification": ("Report", "verify"),
}
_SUBMODULES = ("callbacks",)
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Decision",
    "DifferenceError",
    "FileError",
    "JointMomentum",
    "JointOptimizer",
    "Layout",
    "ModelError",
    "NotMergeableError",
    "OptimizerError",
    "PairError",
    "Part",
    "Plan",
    "Report",
    "RewriterError",
    "SelectorError",
    "__version__",
    "callbacks",
    "export",
    "layout_of",
    "load_model",
    "pair",
    "plan",
    "rewrite",
    "save_model",
    "split",
    "standard_form",
    "unpair",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        near = difflib.get_close_matches(name, __all__, n=1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    if _MODULE_OF[name] != "errors":
        importlib.import_module("tf_keras")  # first, and what is registered then: a module may be one of these
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@wrapt.when_imported("tf_keras")
def _register(_: Any) -> None:
    # What tf_keras.models.load_model needs to read a rewritten file of any format, however early or late tf_keras
    # is imported.
    for module in ("augmented", "hidden", "joint_momentum", "optimizer_guard"):
        importlib.import_module(f"{__name__}.{module}")
