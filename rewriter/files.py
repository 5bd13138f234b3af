"""Models in files: ``save_model`` and ``load_model`` for the rewritten form, ``export`` for the standard one."""

from __future__ import annotations

import secrets
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tf_keras

from rewriter import manifest
from rewriter.errors import FileError
from rewriter.formats import Format, format_of, format_to_write, read_manifest, write_manifest
from rewriter.rewriting import standard_form
from rewriter.walk import require_model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


def export(model: Any, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write the standard form of a model, to a file that loads where this library is not installed.

    The model stays as it is and training can go on.

    Args:
        model: A tf-keras model, rewritten or not.
        path: Where to; the ending says the format: ``.keras``, ``.h5``, or none for a SavedModel folder.
        overwrite: Replace what is there.

    Raises:
        ModelError: ``model`` is no tf-keras model.
        FileError: ``path`` exists, has no parent folder, or an ending that names no format; or Keras cannot save the
            model in that format. Nothing is written then.
    """
    require_model(model)
    destination = writable(path, overwrite)
    with standard_form(model):
        _write(model, destination)


def save_model(
    model: Any, path: str | os.PathLike[str], overwrite: bool = False, source_sha256: str | None = None
) -> None:
    """Write a model in the form it has, rewritten layers merged, with its optimizer state and a manifest.

    Args:
        model: A tf-keras model.
        path: Where to, as in :func:`export`.
        overwrite: Replace what is there.
        source_sha256: Digest of the file the model was rewritten from, for the manifest.

    Raises:
        ModelError: ``model`` is no tf-keras model.
        FileError: As in :func:`export`.
    """
    require_model(model)
    destination = writable(path, overwrite)
    described = manifest.describe(model, source_sha256)
    _write(
        model,
        destination,
        lambda written: write_manifest(written, described) if described["layers"] else None,
    )


def load_model(
    path: str | os.PathLike[str],
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,  # noqa: A002  the name Keras gives it
    safe_mode: bool = True,
) -> Any:
    """Read a model, rewritten or standard, from a ``.keras`` or ``.h5`` file or a SavedModel folder.

    Args:
        path: Where from.
        custom_objects: The user's own classes and functions by name, as Keras takes them.
        compile: Compile the model as it was.
        safe_mode: Refuse a Lambda layer, which would execute code from the file. Speaks of ``.keras`` files only.

    Returns:
        The model.

    Raises:
        FileError: The file is missing, is not a model, or Keras cannot read it.
    """
    source = Path(path)
    kind = format_of(source)
    try:
        described = read_manifest(source)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise FileError(f"{source}: damaged, {_first_line(error)}") from error
    if described is not None:
        manifest.require_readable(described, str(source))
    options = {"safe_mode": safe_mode} if kind is Format.KERAS else {}
    try:
        return tf_keras.models.load_model(str(source), custom_objects=custom_objects, compile=compile, **options)
    except Exception as error:
        raise FileError(f"{source}: Keras cannot read this model: {_first_line(error)}") from error


def writable(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Return ``path`` if a model may be written there; ``FileError`` with what to do if not. Touches nothing."""
    destination = Path(path)
    format_to_write(destination)
    if destination.exists() and not overwrite:
        raise FileError(f"{destination} exists already; overwrite=True (--overwrite) replaces it.")
    if not destination.absolute().parent.is_dir():
        raise FileError(f"{destination}: the folder {destination.parent} does not exist.")
    return destination


def _write(model: Any, destination: Path, finish: Callable[[Path], None] = lambda _: None) -> None:
    """Write a model beside its place and move it there in one step, so that no piece of a file is ever seen."""
    kind = format_to_write(destination)
    # The same ending, since Keras goes by it.
    temporary = destination.with_name(f".{secrets.token_hex(4)}.{destination.name}")
    try:
        with warnings.catch_warnings():
            # Keras recommends .keras over .h5 each time; whoever wrote .h5 meant it.
            warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
            model.save(str(temporary), save_format=kind.value)
        finish(temporary)
        _move(temporary, destination)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise FileError(f"{destination}: not written, Keras cannot save this model so: {_first_line(error)}") from error
    finally:
        _remove(temporary)


def _move(temporary: Path, destination: Path) -> None:
    if not destination.is_dir():
        temporary.replace(destination)
        return
    # A folder cannot be replaced in one step: the old one steps aside and is there again if the new one fails.
    aside = destination.with_name(f".{secrets.token_hex(4)}.{destination.name}")
    destination.rename(aside)
    try:
        temporary.rename(destination)
    except OSError:
        aside.rename(destination)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    return line or type(error).__name__
