"""What can go wrong, as a hierarchy a caller can catch. What speaks of an argument is a ``ValueError`` too.

::

    RewriterError            every error this library raises on purpose
    ├── ModelError           the object or the model cannot be worked on
    ├── SelectorError        an include or exclude selector matches nothing
    ├── NotMergeableError    strict=True, and a selected pair cannot be merged
    ├── PairError            a pair that rewriter.pair declares does not fit the layer
    ├── OptimizerError       the optimizer or its state cannot be kept
    ├── FileError            a file cannot be read or must not be written
    └── DifferenceError      a check found that two models differ
"""

import re


class RewriterError(Exception):
    """Base of every error that this library raises on purpose."""

    # By this autograph sees that an error is made again by its message alone, so that in a tf.function it stays what
    # it is; the __init__ of ValueError is another.
    __init__ = Exception.__init__


class ModelError(RewriterError, ValueError):
    """The given object is not a model that this library can work on."""


class SelectorError(RewriterError, ValueError):
    """A selector of ``include`` or ``exclude`` matches no layer that owns a kernel."""


class NotMergeableError(RewriterError):
    """``strict=True`` and at least one selected kernel and bias pair cannot be merged."""


class PairError(RewriterError, ValueError):
    """A pair that ``rewriter.pair`` declares does not fit the layer."""


class OptimizerError(RewriterError, ValueError):
    """The optimizer, or its state, cannot be kept."""


class FileError(RewriterError):
    """A file cannot be read as a model, or must not be written."""


class DifferenceError(RewriterError):
    """A model computes something else than before; the change was undone.

    Attributes:
        path: The layer that differs, ``"model"`` where only the model as a whole does.
        what: What differs, without the path.
    """

    def __init__(self, what: str, path: str = "model") -> None:
        super().__init__(f"{path}: {what}")
        self.path, self.what = path, what


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its class if the message is empty.

    Keras writes a headline, the cause on a separate line, and then the inputs, at any length.
    """
    # A KeyError says its message as Python would write it, with quotes.
    text = (
        error.args[0] if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str) else str(error)
    )
    # The node at which TensorFlow failed does not help the user who gave the batch.
    text = re.sub(r"\{\{(?:function_)?node [^}]*\}\}\s*|\s*\[Op:\w+\]( name:)?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    headline = bool(lines) and lines[0].startswith("Exception encountered when calling")
    said = " ".join(lines[: 2 if headline else 1]).partition(" Inputs received:")[0]
    said = re.sub(r"(?<=\.)[^.]*\bbelow:$", "", said)  # nothing is
    return said[:500] or type(error).__name__
