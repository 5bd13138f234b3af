"""The three file formats of Keras, and where each keeps the manifest of a rewritten model."""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from rewriter.core.errors import FileError

from ..adapters import keras
from .archive import edit_member

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

KEY = "rewriter"  # of the manifest, where the format has keys
_CONFIG = "config.json"
_H5_CONFIG = "model_config"
_METADATA = "metadata.json"
_SAVED_MODEL = "saved_model.pb"
_SIDECAR = "rewriter.json"
# What TensorFlow, Keras and this library write into the folder of a SavedModel.
SAVED_MODEL_CONTENT = {_SAVED_MODEL, "keras_metadata.pb", "fingerprint.pb", "variables", "assets", "assets.extra"} | {
    _SIDECAR,
    "rewriter_optimizer.json",
    "rewriter_optimizer.npz",
}


class Format(Enum):
    """A file format of Keras."""

    KERAS = "keras"
    H5 = "h5"
    SAVED_MODEL = "tf"


def as_path(path: str | os.PathLike[str]) -> Path:
    """Read a path; ``FileError`` for what is none."""
    try:
        return Path(path)
    except TypeError as error:
        raise FileError(f"a path is a str or a pathlib.Path, got {path!r} of type {type(path).__name__}.") from error


def format_to_write(path: Path) -> Format:
    """Return the format that a path asks for; ``FileError`` for an unknown ending."""
    if path.suffix == ".keras":
        return Format.KERAS
    if path.name.endswith(".weights.h5"):
        raise FileError(f"{path}: the ending .weights.h5 names a file of weights alone, and this is a model. Use .h5.")
    if path.suffix in {".h5", ".hdf5"}:
        return Format.H5
    if path.suffix == "" or path.is_dir():
        return Format.SAVED_MODEL
    formats = ".keras or .h5" if keras.checkpoints is None else ".keras, .h5, or no ending for a SavedModel folder"
    raise FileError(f"{path}: the ending {path.suffix!r} names no model format. Use {formats}.")


def names_format(path: str | os.PathLike[str], save_format: str | None = None) -> bool:
    """Tell whether a path says in which format a model is to be written, and it is the one that Keras calls so."""
    try:
        kind = format_to_write(Path(path))
    except FileError:
        return False
    return "://" not in str(path) and save_format in {None, kind.value}


def format_of(path: Path) -> Format:
    """Tell in which format a model was written; ``FileError`` where there is none.

    Args:
        path: A file or folder.
    """
    if _is_folder(path):
        if (path / _SAVED_MODEL).is_file():
            return Format.SAVED_MODEL
        raise FileError(f"{path}: this folder is no SavedModel, it has no {_SAVED_MODEL}.")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}.") from error
    if not start:
        raise FileError(f"{path}: this file is empty.")
    archive, hdf5 = start.startswith(b"PK"), h5py.is_hdf5(path)
    if archive and not zipfile.is_zipfile(path):
        raise FileError(f"{path}: this archive is truncated or damaged, its directory at the end is missing.")
    if not archive and not hdf5:
        raise FileError(f"{path}: not a model. Expected a .keras archive, an HDF5 file (.h5) or a SavedModel folder.")
    if archive and path.suffix != ".keras":
        raise FileError(f"{path}: this is a zip archive; if it is a Keras model, give it the ending .keras.")
    return Format.KERAS if archive else Format.H5


def _is_folder(path: Path) -> bool:
    """Tell whether a path is a folder and no file; ``FileError`` where there is neither."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        if path.with_name(f"{path.name}.index").is_file():
            raise FileError(
                f"{path}: this is a checkpoint of TensorFlow's, which has weights and no model. Load it into the model "
                "with model.load_weights, then rewriter.save_model writes a file that has both."
            ) from error
        raise FileError(f"{path}: no such file or folder.") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}.") from error


def digest(path: Path) -> str:
    """Compute the SHA-256 of a model file; of a folder, that of its files' names and contents, in order."""
    sha256 = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]:
        if file != path:
            sha256.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha256.update(block)
    return sha256.hexdigest()


def read_manifest(path: Path) -> Any:
    """Read the manifest of a model file, as JSON data; ``None`` where it has none, so is not a rewritten one's."""
    kind = format_of(path)
    if kind is Format.KERAS:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(_METADATA)).get(KEY) if _METADATA in archive.namelist() else None
    if kind is Format.H5:
        with h5py.File(path, "r") as file:
            return json.loads(file.attrs[KEY]) if KEY in file.attrs else None
    sidecar = path / _SIDECAR
    return json.loads(sidecar.read_text("utf-8")) if sidecar.is_file() else None


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Add a manifest to a model file just written by Keras."""
    kind = format_of(path)
    if kind is Format.KERAS:
        _replace_metadata(path, manifest)
    elif kind is Format.H5:
        with h5py.File(path, "a") as file:
            file.attrs[KEY] = json.dumps(manifest).encode()
    else:
        (path / _SIDECAR).write_text(json.dumps(manifest, indent=1), "utf-8")


def edit_config(path: Path, edit: Callable[[Any], Any]) -> None:
    """Replace the model's config in a ``.keras`` or ``.h5`` file just written by Keras, where that is a change."""
    if format_of(path) is Format.KERAS:
        edit_member(path, _CONFIG, edit)
    else:
        with h5py.File(path, "a") as file:
            file.attrs[_H5_CONFIG] = json.dumps(edit(json.loads(file.attrs[_H5_CONFIG])))


def _replace_metadata(path: Path, manifest: dict[str, Any]) -> None:
    # Not a member of its own: at the sight of a fourth member Keras unpacks the whole archive to disk on load.
    edit_member(path, _METADATA, lambda metadata: {**metadata, KEY: manifest})
