"""What can go wrong, as a hierarchy a caller can catch.

::

    RewriterError            every error this library raises on purpose
    ├── ModelError           the object or the model cannot be worked on
    ├── SelectorError        an include or exclude selector matches nothing
    ├── NotMergeableError    strict=True, and a selected pair cannot be merged
    ├── PairError            what rewriter.pair was told does not fit the layer
    ├── OptimizerError       the optimizer or its state cannot be carried across
    ├── FileError            a file cannot be read or must not be written
    └── DifferenceError      a check found that two models differ
"""

import re


class RewriterError(Exception):
    """Base of every error that this library raises on purpose."""


class ModelError(RewriterError):
    """The object given is not a model this library can work on."""


class SelectorError(RewriterError):
    """A selector of ``include`` or ``exclude`` matches no layer that owns a kernel."""


class NotMergeableError(RewriterError):
    """``strict=True`` and at least one selected kernel and bias pair cannot be merged."""


class PairError(RewriterError):
    """What ``rewriter.pair`` was told does not fit the layer."""


class OptimizerError(RewriterError):
    """The optimizer, or its state, cannot be carried across the rewrite."""


class FileError(RewriterError):
    """A file cannot be read as a model, or must not be written."""


class DifferenceError(RewriterError):
    """A model computes something else than it did before; nothing was kept.

    Attributes:
        path: The layer that differs, ``"model"`` where only the model as a whole does.
        what: What differs, without the path.
    """

    def __init__(self, what: str, path: str = "model") -> None:
        super().__init__(f"{path}: {what}")
        self.path, self.what = path, what


def first_line(error: BaseException) -> str:
    """Read what an error's message says first, in one line; its class where it says nothing.

    Keras puts its cause on a line of its own under a headline, and after it the inputs it was given, at any length.
    """
    # A KeyError says its message as Python would write it, with quotes.
    text = (
        error.args[0] if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str) else str(error)
    )
    # Where TensorFlow stood when it failed is of no use to whoever gave the batch.
    text = re.sub(r"\{\{(?:function_)?node [^}]*\}\}\s*|\s*\[Op:\w+\]( name:)?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    headline = bool(lines) and lines[0].startswith("Exception encountered when calling")
    said = " ".join(lines[: 2 if headline else 1]).partition(" Inputs received:")[0]
    return said[:500] or type(error).__name__
