"""Which Keras a model or a file is of, and so which of the two libraries takes it: no Keras is imported to find out."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewriter.core.keras_packages import KERAS, TF_KERAS, keras_of
from rewriter.core.progress import notebook

if TYPE_CHECKING:
    from collections.abc import Callable

# The functions that look at what they are given first: a model, a layer, a class, or a file.
BY_MODEL = {
    *("plan", "rewrite", "split", "standard_form", "export", "save_model", "verify"),
    *("pair", "unpair", "is_rewritten", "merged_layers"),
}
BY_FILE = {"load_model"}
_FIRST = ("model", "path", "a", "layer_or_class")  # what that argument is called


def keras_of_file(path: Any) -> str:
    """Name the package of the Keras that wrote a file; what is no file that says so is left to tf-keras to refuse."""
    try:
        version = str(_version_in(path))
    except (OSError, TypeError, ValueError, KeyError, AttributeError, zipfile.BadZipFile):
        return TF_KERAS
    return TF_KERAS if version.partition(".")[0] in {"None", "1", "2"} else KERAS


def _version_in(path: Any) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json")).get("keras_version")
    import h5py  # noqa: PLC0415  it takes 0.1 s

    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        return file.attrs.get("keras_version")


class Chosen:
    """A function of the library, there for each Keras: a call looks at its first argument, and takes the one for it.

    Args:
        name: Its name.
        of: Returns the function for the Keras of a package.
    """

    def __init__(self, name: str, of: Callable[[str, str], Any]) -> None:
        self._of = of
        self.__name__ = self.__qualname__ = name
        self.__module__ = "rewriter"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        given = args[0] if args else next((kwargs[name] for name in _FIRST if name in kwargs), None)
        which = keras_of_file(given) if self.__name__ in BY_FILE else keras_of(given) or TF_KERAS
        with notebook.shown():
            return self._of(which, self.__name__)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<function rewriter.{self.__name__}>"

    @property
    def __wrapped__(self) -> Any:
        """The function for tf-keras, whose signature and documentation are those of both."""
        return self._of(TF_KERAS, self.__name__)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """Its documentation."""
        text: str = self.__wrapped__.__doc__
        return text
