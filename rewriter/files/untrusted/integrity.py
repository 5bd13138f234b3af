"""Checks that a file is sound before Keras reads it: Keras would unpack, allocate or run whatever it says."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import stat
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import h5py

from rewriter.core.errors import FileError, first_line

from ...adapters import keras, required
from ..archive import weights_member
from ..formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SLACK = 64 << 20  # bytes that a small file may take whatever its size
_DEEPEST = 10  # of lists in lists; Keras takes twice as long for each more
_GROWTH = 8  # times the size of the file that its model may take: weights, and slots of an optimizer yet to be built


def checked_config(path: Path, kind: Format) -> list[Any]:
    """Read the configs in a model file, after seeing that the file is sound; its weights are not read.

    Returns:
        The config of the model as JSON data; of a SavedModel, those of all its layers.

    Raises:
        FileError: What is wrong with the file.
    """
    if kind is Format.KERAS:
        return [_sound_archive(path)]
    return _sound_hdf5(path) if kind is Format.H5 else _sound_folder(path)


def _sound_archive(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            # The directory at the end of the archive is all that is read until its sizes are known to be sane.
            members = archive.infolist()
            names = [member.filename for member in members]
            for member in members:
                parts = member.filename.replace("\\", "/").split("/")
                if parts[0] == "" or ".." in parts or ":" in parts[0] or stat.S_ISLNK(member.external_attr >> 16):
                    raise FileError(f"{path}: its member {member.filename!r} points outside the archive; refused.")
            # Readers differ in which of two members of one name they take, so what is checked may not be what is read.
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise FileError(f"{path}: damaged, it has {twice} more than once.")
            unpacked = sum(member.file_size for member in members)
            if unpacked > allowance(path):
                raise FileError(f"{path}: damaged, {path.stat().st_size} bytes would unpack to {unpacked}; refused.")
            for needed in ("config.json", "model.weights.h5"):
                if needed not in names:
                    raise FileError(f"{path}: an archive without {needed} is no Keras model.")
            if "metadata.json" in names:
                metadata = _json(archive.read("metadata.json"), f"{path}: its metadata.json")
                _require_own_keras(path, metadata.get("keras_version") if isinstance(metadata, dict) else None)
            config = _json(archive.read("config.json"), f"{path}: its config.json")
            with weights_member(archive) as weights, h5py.File(weights, "r") as file:
                _require_sound_hdf5(path, file, allowance(path))
            return config
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FileError(f"{path}: damaged or truncated archive, {first_line(error)}") from error


def _sound_hdf5(path: Path) -> list[Any]:
    _require_sound_heaps(path)
    try:
        with h5py.File(path, "r") as file:
            _require_own_keras(path, _text(file.attrs.get("keras_version")))
            if "model_config" not in file.attrs:
                weights_only = "layer_names" in file.attrs or {"_layer_checkpoint_dependencies", "layers"} & set(file)
                if weights_only:
                    raise FileError(
                        f"{path}: a file of weights only. Make the model, model.load_weights({path.name!r}), and save "
                        "it whole with model.save."
                    )
                raise FileError(f"{path}: an HDF5 file without a model_config is no Keras model.")
            _require_sound_hdf5(path, file, allowance(path))
            names = [name for name in ("model_config", "training_config") if name in file.attrs]
            return [_json(file.attrs[name], f"{path}: its {name}") for name in names]
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FileError(f"{path}: damaged or truncated HDF5 file, {first_line(error)}") from error


def _sound_folder(path: Path) -> list[Any]:
    for needed in ("saved_model.pb", "variables/variables.index"):
        if not (path / needed).is_file() or not (path / needed).stat().st_size:
            raise FileError(f"{path}: damaged, {needed} of this SavedModel is missing or empty.")
    metadata = path / "keras_metadata.pb"
    if not metadata.is_file():
        raise FileError(
            f"{path}: a SavedModel without Keras metadata (keras_metadata.pb) can be run and not trained or rewritten. "
            "Save the model itself with model.save, not model.export or tf.saved_model.save."
        )
    try:
        texts = required(keras.checkpoints, "a SavedModel").saved_metadata(metadata.read_bytes())
    except ValueError as error:
        raise FileError(f"{path}: damaged, keras_metadata.pb cannot be read: {error}") from error
    return [_json(text, f"{path}: its keras_metadata.pb") for text in texts]


def _require_sound_hdf5(path: Path, file: Any, most: int) -> None:
    """Raise ``FileError`` for links out of an HDF5 file, for groups in circles, and for data that is not there."""
    waiting, seen, total = [file], set(), 0
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            raise FileError(f"{path}: damaged, the group {group.name} of its weights is there twice.")
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise FileError(f"{path}: {group.name}/{name} of its weights points elsewhere; refused.")
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
                continue
            if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
                raise FileError(f"{path}: {group.name}/{name} of its weights points elsewhere; refused.")
            total += math.prod(item.shape or ()) * item.dtype.itemsize
            if total > most:
                raise FileError(f"{path}: damaged, its weights would take {total} bytes, and the file has fewer.")


_HEAP = b"GCOL\x01\0\0\0"
_HEADER = 16  # bytes, of a heap and of each object in it


def _require_sound_heaps(path: Path) -> None:
    """Raise ``FileError`` for a heap of texts whose objects do not end: the HDF5 library would never return.

    The layout is that of "Global Heap" in the HDF5 File Format Specification: a header with the size of the heap, then
    objects, each with a header of index, reference count and size, padded to 8 bytes; that of index 0 is free space.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_HEAP)
        while start >= 0:
            end = start + int.from_bytes(content[start + 8 : start + _HEADER], "little")
            place = start + _HEADER
            while place + _HEADER <= min(end, len(content)):
                index, size = struct.unpack_from("<H6xQ", content, place)
                step = _HEADER + -(-size // 8) * 8 if index else size
                if not step or place + step > end:
                    raise FileError(f"{path}: damaged HDF5 file, its heap at byte {start} does not end.")
                place += step
            start = content.find(_HEAP, start + len(_HEAP))


def _require_own_keras(path: Path, version: Any) -> None:
    if isinstance(version, str) and version.split(".")[0] != keras.VERSION.split(".")[0]:
        raise FileError(
            f"{path}: saved by Keras {version}, which {keras.NAME} {keras.VERSION} cannot read. rewriter.load_model "
            "takes the Keras that wrote a file; to go on with the other one, make the model there and give it the "
            "weights: model.set_weights(other_model.get_weights())."
        )


def _json(text: Any, what: str) -> Any:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise FileError(f"{what} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise FileError(f"{what} is JSON, but no object.")
    if _lists_in_lists(data) > _DEEPEST:
        raise FileError(f"{what} has lists in lists in lists, {_lists_in_lists(data)} deep; damaged.")
    return data


def _lists_in_lists(data: Any) -> int:
    deepest, waiting = 0, [(data, 0)]
    while waiting:
        each, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(each, list):
            waiting += [(inner, depth + 1) for inner in each]
        elif isinstance(each, dict):
            waiting += [(inner, 0) for inner in each.values()]
    return deepest


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def allowance(path: Path) -> int:
    """Return how many bytes the model in a file may take in memory. A damaged config can ask for any number."""
    files = path.rglob("*") if path.is_dir() else [path]
    return _SLACK + _GROWTH * sum(file.stat().st_size for file in files if file.is_file())


@contextlib.contextmanager
def limited_variables(path: Path, most: int) -> Iterator[None]:
    """Inside, ``FileError`` is raised if variables would take more than so many bytes."""
    made = 0

    def count(size: int) -> None:
        nonlocal made
        made += size
        if made > most:
            raise FileError(f"{path}: damaged, its config asks for {made} bytes of weights, and the file has fewer.")

    with keras.observed_variables(count):
        yield
