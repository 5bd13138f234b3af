"""A file or folder written beside its place and moved there in one step, so that no piece of one is ever seen."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rewriter.errors import FileError
from rewriter.formats import format_to_write

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


def writable(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Return ``path`` if a model may be written there; ``FileError`` with what to do if not. Touches nothing."""
    destination = Path(path)
    format_to_write(destination)
    if destination.exists() and not overwrite:
        raise FileError(f"{destination} exists already; overwrite=True (--overwrite) replaces it.")
    if not destination.absolute().parent.is_dir():
        raise FileError(f"{destination}: the folder {destination.parent} does not exist.")
    return destination


def place(destination: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` write a file or folder beside its destination, then move it there.

    Args:
        destination: Where it belongs; what is there is replaced, a file at once, a folder by stepping aside.
        write: Gets the path to write to, which has the destination's ending since Keras goes by it.

    Raises:
        Whatever ``write`` raises; the destination is then as it was, and nothing is left beside it.
    """
    temporary = _beside(destination)
    try:
        write(temporary)
        if destination.is_dir():
            _replace_folder(temporary, destination)
        else:
            temporary.replace(destination)
    finally:
        _remove(temporary)


def _replace_folder(temporary: Path, destination: Path) -> None:
    aside = _beside(destination)
    destination.rename(aside)
    try:
        temporary.rename(destination)
    except OSError:
        aside.rename(destination)
        raise
    _remove(aside)


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}.{path.name}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
