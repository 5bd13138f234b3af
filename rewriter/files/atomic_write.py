"""Files and folders are written beside their destination and moved there in one step, so no half file is ever seen."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import sys
from typing import TYPE_CHECKING

from rewriter.core import hints
from rewriter.core.errors import FileError
from rewriter.core.flags import require_flags

from .formats import SAVED_MODEL_CONTENT, as_path, format_to_write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_AT_FDCWD = -100  # paths are relative to the working directory


def writable(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Return ``path`` if a model may be written there; ``FileError`` with what to do if not. Touches nothing."""
    require_flags(overwrite=overwrite)
    destination = as_path(path)
    format_to_write(destination)
    if destination.exists() and not overwrite:
        raise FileError(f"{destination} exists already; {hints.Argument('overwrite', True)} replaces it.")
    if not destination.absolute().parent.is_dir():
        raise FileError(f"{destination}: the folder {destination.parent} does not exist.")
    parent = destination.absolute().parent
    if not os.access(parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise FileError(f"{destination}: no permission to write in {parent}.")
    if destination.is_dir():
        others = sorted(found.name for found in destination.iterdir() if found.name not in SAVED_MODEL_CONTENT)
        if others:
            raise FileError(
                f"{destination} is a folder that holds {others[0]}, no part of a SavedModel; it would be lost, "
                "so the folder is not replaced. Give another place."
            )
    return destination


def place(destination: Path, write: Callable[[Path], None], keep: bool = True) -> None:
    """Let ``write`` write a file or folder beside its destination, then move it there.

    Args:
        destination: Where it belongs; what is there is replaced.
        write: Gets the path to write to, which has the destination's ending since Keras goes by it.
        keep: Whether it is moved there; else it is only written and taken away, as by a worker that is not the chief.

    Raises:
        Whatever ``write`` raises; the destination is then as it was, and nothing is left beside it.
    """
    temporary = _beside(destination)
    try:
        write(temporary)
        if not keep:
            return
        if destination.is_dir():
            _replace_folder(temporary, destination)
        else:
            temporary.replace(destination)
    finally:
        _remove(temporary)


def _replace_folder(temporary: Path, destination: Path) -> None:
    """Replace a folder by another: in one step if the system can, otherwise in two."""
    if _exchange(temporary, destination):
        return
    aside = _beside(destination)
    destination.rename(aside)
    try:
        temporary.rename(destination)
    except OSError:
        aside.rename(destination)
        raise
    _remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; ``False`` where the system or the file system cannot.

    Python has no call for it: ``os.replace`` refuses a folder that is not empty. With two renames there is a moment in
    which neither folder is there, and a process that is killed then has lost the model.
    """
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux":
        # renameat2(2), with RENAME_EXCHANGE.
        call = getattr(ctypes.CDLL(None), "renameat2", None)
        return call is not None and call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], 2) == 0
    if sys.platform == "darwin":
        # renamex_np(2), with RENAME_SWAP.
        return bool(ctypes.CDLL(None).renamex_np(*paths, 2) == 0)
    return False


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}.{path.name}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
