"""Models in files: ``save_model`` and ``load_model`` for the rewritten form, ``export`` for the standard one."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tf_keras

from rewriter import keras_internals, manifest
from rewriter.errors import FileError, RewriterError
from rewriter.formats import Format, edit_config, format_of, format_to_write, read_manifest, write_manifest
from rewriter.hidden import hidden_layers, merge_at, wrap_config
from rewriter.optimizer_state import read_state, restore_optimizer, write_optimizer
from rewriter.placing import place, writable
from rewriter.rewriting import standard_form
from rewriter.stale import reset_functions
from rewriter.walk import locate_layers, require_model

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
            model, or not all of it, in that format. Nothing is written then.
    """
    require_model(model)
    destination = writable(path, overwrite)
    with standard_form(model):
        _write(model, destination)


def save_model(
    model: Any, path: str | os.PathLike[str], overwrite: bool = False, source_sha256: str | None = None
) -> None:
    """Write a model in the form it has, rewritten layers merged, with its optimizer's state and a manifest.

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
    if not described["layers"]:
        _write(model, destination)
    elif format_to_write(destination) is Format.SAVED_MODEL:
        _save_folder(model, destination, described)
    else:
        hidden = hidden_layers(model)

        def finish(written: Path) -> None:
            write_manifest(written, described)
            if hidden:
                edit_config(written, lambda config: wrap_config(config, manifest.paths(described)))

        _write(model, destination, finish)


def _save_folder(model: Any, destination: Path, described: dict[str, Any]) -> None:
    optimizer = model.optimizer
    # A legacy optimizer has no such state to read; Keras saves it, and drops it on load, as it always does.
    state = read_state(optimizer) if isinstance(optimizer, tf_keras.optimizers.Optimizer) else None

    def finish(written: Path) -> None:
        write_manifest(written, described)
        if state is not None:
            write_optimizer(written, optimizer, state)

    if hidden_layers(model):
        # Keras revives the layers of a SavedModel one by one and could not know that these are merged.
        described["standard_form"] = True
        with standard_form(model):
            _write(model, destination, finish)
    else:
        _write(model, destination, finish)


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
        model = tf_keras.models.load_model(str(source), custom_objects=custom_objects, compile=compile, **options)
    except RewriterError as error:
        raise FileError(f"{source}: {error}") from error
    except Exception as error:
        raise FileError(f"{source}: Keras cannot read this model: {_first_line(error)}") from error
    if kind is Format.SAVED_MODEL and described is not None:
        if described.get("standard_form"):
            merge_at(model, manifest.paths(described))
            reset_functions(model)
        restore_optimizer(source, model)
    return model


def _write(model: Any, destination: Path, finish: Callable[[Path], None] = lambda _: None) -> None:
    """Write a model as Keras does, in one step, and only if the format holds all of it."""
    kind = format_to_write(destination)
    if kind is Format.KERAS:
        _require_all_saved(model, destination)

    def write(temporary: Path) -> None:
        with warnings.catch_warnings():
            # Keras recommends .keras over .h5 each time; whoever wrote .h5 meant it.
            warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
            model.save(str(temporary), save_format=kind.value)
        finish(temporary)

    try:
        place(destination, write)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        raise FileError(f"{destination}: not written, Keras cannot save this model: {_first_line(error)}") from error


def _require_all_saved(model: Any, destination: Path) -> None:
    saved = keras_internals.layers_saved_in_keras_format(model)
    left_out = [
        found.paths[0]
        for found in locate_layers(model)
        if keras_internals.own_weights(found.layer) and id(found.layer) not in saved
    ]
    if left_out:
        raise FileError(
            f"{destination}: not written, Keras's .keras format would silently leave out the weights of "
            f"{', '.join(left_out)}: it does not look into containers inside containers. Use .h5 or a SavedModel."
        )


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    return line or type(error).__name__
