"""``save_model`` writes the rewritten form of a model, ``export`` the standard form."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from rewriter.core import hints, progress
from rewriter.core.errors import FileError, RewriterError, first_line
from rewriter.core.log import log, log_lines

from ..adapters import keras
from ..model.walk import locate_layers, require_model, unknown_classes
from ..optimizers.joint_optimizer import is_joint
from ..optimizers.optimizer_choice import choose_standard_optimizer
from ..optimizers.state.outcomes import Outcome
from ..optimizers.state.pending_restore import require_loaded_in_its_form, restore_now
from ..rewriting.model_methods import do_with
from ..rewriting.split import standard_form
from . import manifest
from .atomic_write import place, writable
from .completeness import require_all_written, require_readable
from .formats import Format, edit_config, format_to_write, names_format, write_manifest
from .nested_layers import layers_missing_in_config, wrap_config
from .optimizer_state import read_state, read_uncounted, write_optimizer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from rewriter.core.messages import Message


def export(model: Any, path: str | os.PathLike[str], overwrite: bool = False, inputs: Any = None) -> None:
    """Write the standard form of a model, to a file that loads where this library is not installed.

    The model stays as it is and training can go on. With several workers of a ``tf.distribute`` strategy each must
    call this, as all of them make the weights; the chief's file is kept.

    Args:
        model: A Keras model, rewritten or not.
        path: Where to; the ending says the format: ``.keras``, ``.h5``, or none for a SavedModel folder.
        overwrite: Replace what is there.
        inputs: A batch that the model takes: its outputs, and those of each layer, are compared in both forms.
            ``None`` makes one from what the model says of its inputs.

    Raises:
        ModelError: ``model`` is no Keras model, or ``inputs`` is no batch that it takes; or a checkpoint of the
            rewritten form was loaded while a layer was plain.
        DifferenceError: A layer computes something else in standard form.
        FileError: ``path`` exists, has no parent folder, or an ending that names no format; or Keras cannot save the
            model, or not all of it, in that format. Nothing is written then.
        TypeError: ``overwrite`` is neither ``True`` nor ``False``.
    """
    require_model(model)
    require_loaded_in_its_form(model)
    destination = _destination(model, path, overwrite)
    lines = exported_state(model, destination)
    with standard_form(model, check=True, inputs=inputs):
        _write(model, destination)
    log_lines(lines)


def exported_state(model: Any, destination: Path) -> tuple[Message, ...]:
    """Return what becomes of the optimizer of an exported model, as plain Keras will read it."""
    lines = choose_standard_optimizer(model).lines
    if not keras.is_optimizer(keras.optimizer_of(model)):
        return lines
    if format_to_write(destination) is Format.SAVED_MODEL:
        return (*lines, Outcome.SAVED_MODEL())
    if keras.inner_optimizer(keras.optimizer_of(model)) is keras.optimizer_of(model):
        return lines
    kept = [line for line in lines if line.kind is not Outcome.LOSS_SCALE_KEPT]
    return (*kept, Outcome.LOSS_SCALE_LOST())


def save_model(
    model: Any,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    source_sha256: str | None = None,
    **options: Any,
) -> None:
    """Write a model in the form it has, rewritten layers merged, with its optimizer's state and a manifest.

    With several workers of a ``tf.distribute`` strategy each must call this; the chief's file is kept.

    Args:
        model: A Keras model.
        path: Where to, as in :func:`export`.
        overwrite: Replace what is there.
        source_sha256: Digest of the file the model was rewritten from, for the manifest.
        **options: What Keras's ``Model.save`` takes beside these: ``include_optimizer``, ``signatures``, ``options``.

    Raises:
        ModelError: ``model`` is no Keras model, or a checkpoint was loaded as in :func:`export`.
        FileError: As in :func:`export`.
        TypeError: As in :func:`export`.
    """
    require_model(model)
    require_loaded_in_its_form(model)
    destination = _destination(model, path, overwrite)
    restore_now(model)
    described = manifest.describe(model, source_sha256)
    # Nothing is merged: a plain file, without a manifest, that Keras reads as any other.
    if not described["layers"]:
        _write(model, destination, options=options)
        return
    if options.get("include_optimizer", True) and keras.is_optimizer(keras.optimizer_of(model)):
        described["optimizer_state"] = read_uncounted(keras.optimizer_of(model))
    # Before writing: a rule whose settings make another rule would train otherwise after a resume, in silence.
    if is_joint(keras.optimizer_of(model)):
        try:
            keras.inner_optimizer(keras.optimizer_of(model)).require_saveable()
        except TypeError as error:
            raise FileError(f"{destination}: not written, {error}") from error
        _warn_of_a_bare_name(type(keras.inner_optimizer(keras.optimizer_of(model))), destination)
    hidden = layers_missing_in_config(model)
    if hidden and format_to_write(destination) is Format.SAVED_MODEL:
        _save_hidden_folder(model, destination, described, options)
        return

    def finish(written: Path) -> None:
        write_manifest(written, described)
        if hidden:
            edit_config(written, lambda config: wrap_config(config, manifest.places(described)))

    _write(model, destination, finish, options)


def _warn_of_a_bare_name(cls: type, destination: Path) -> None:
    bare = keras.legacy is not None and keras.legacy.has_bare_name(cls)
    if bare and format_to_write(destination) is not Format.KERAS:
        log.warning(
            "%s is not registered, and so %s can only be read with custom_objects={%r: %s}; "
            f"{keras.NAME}.saving.register_keras_serializable registers it.",
            cls.__name__,
            destination.name,
            cls.__name__,
            cls.__name__,
        )


def _destination(model: Any, path: str | os.PathLike[str], overwrite: bool) -> Path:
    # A worker that is not the chief keeps nothing, and the chief may have written already.
    return writable(path, overwrite if keras.is_chief(model) else True)


def _save_hidden_folder(model: Any, destination: Path, described: dict[str, Any], options: dict[str, Any]) -> None:
    """Write a SavedModel in standard form: Keras revives its layers one by one and could not know which are merged."""
    optimizer = keras.optimizer_of(model)
    # As it is now: in standard form it is not centered.
    kept = (keras.optimizer_to_config(optimizer), read_state(optimizer)) if keras.is_optimizer(optimizer) else None
    described["standard_form"] = True

    def finish(written: Path) -> None:
        write_manifest(written, described)
        if kept is not None:
            write_optimizer(written, *kept)

    with standard_form(model):
        _write(model, destination, finish, options)


def _require_format_of_keras(kind: Format, destination: Path) -> None:
    if kind is Format.SAVED_MODEL and keras.checkpoints is None:
        raise FileError(
            f"{destination}: of Keras 3 there are .keras and .h5 files here, and no folders (zipped=False). "
            "For a SavedModel, to serve and not to train: with rewriter.standard_form(model): model.export(...)."
        )


def _write(
    model: Any,
    destination: Path,
    finish: Callable[[Path], None] = lambda _: None,
    options: dict[str, Any] | None = None,
) -> None:
    """Write a model as Keras does, in one step, and only if the file holds all of it."""
    kind = format_to_write(destination)
    _require_format_of_keras(kind, destination)
    given = options or {}
    classes = ", ".join(unknown_classes(model))
    unknown = (
        f"These classes of it are not imported, and Keras runs a graph in their place: {classes}; "
        f"{hints.import_of()}, the one that defines them"
    )
    if classes and kind is not Format.SAVED_MODEL:
        raise FileError(f"{destination}: not written: the file could not be loaded again. {unknown}.")
    if kind is Format.SAVED_MODEL and given.get("save_traces", True) and keras.input_specs(model) is None:
        raise FileError(
            f"{destination}: not written, a SavedModel says what its model takes, and {model.name} has not been called "
            f"since it was made or read: call it on a batch first; rewrite and export do that with {hints.INPUTS}."
        )
    if kind is Format.KERAS:
        require_readable(model, destination)
        _build_scaled(model)

    def write(temporary: Path) -> None:
        with warnings.catch_warnings():
            # Keras recommends .keras over .h5 each time; the user has chosen .h5.
            warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
            keras.save(model, str(temporary), kind.value, **given)
        if kind is Format.KERAS:
            edit_config(temporary, keras.portable_config)
        # Still beside its place: what is incomplete is never seen under the name that was asked for.
        finish(temporary)
        require_all_written(model, temporary, kind, destination, given.get("include_optimizer", True))

    try:
        with progress.stage(f"writing {destination.name}"):
            place(destination, write, keep=keras.is_chief(model))
    except OSError as error:
        raise FileError(f"{destination}: not written, {error.strerror or first_line(error)}") from error
    except RewriterError:
        raise
    # What Keras raises for a model that it cannot save. Anything else is a fault of ours, and should look like one.
    except (AssertionError, ValueError, TypeError, NotImplementedError, RuntimeError, *keras.FILE_ERRORS) as error:
        why = f"Keras cannot save this model: {first_line(error)}"
        raise FileError(f"{destination}: not written, {f'{unknown}. ' if classes else ''}{why}") from error
    if kind is Format.SAVED_MODEL and (remade := _remade_by_keras(model)):
        log.warning(
            "tf_keras.models.load_model gives new weights to %s, without a warning, where it knows the model's "
            "classes; rewriter.load_model, the signatures of %s and .keras files have the right ones",
            ", ".join(remade),
            destination.name,
        )


def _remade_by_keras(model: Any) -> list[str]:
    """List the paths of the layers whose weights Keras makes again when it reads a SavedModel: they build in a call."""
    return [
        found.paths[0]
        for found in locate_layers(model)
        if isinstance(found.layer, keras.layer_classes("MultiHeadAttention"))
        and not all(map(keras.is_graph_network, found.owners))
    ]


def _build_scaled(model: Any) -> None:
    """Make the slots of an optimizer in a ``LossScaleOptimizer``: Keras fails at a ``.keras`` file that has none."""
    inner = keras.inner_optimizer(keras.optimizer_of(model))
    if inner is not keras.optimizer_of(model) and keras.optimizer_slots(inner) is None:
        keras.build_slots(inner, keras.trained_variables(model))


def _save(model: Any, filepath: Any, overwrite: bool, save_format: str | None, **options: Any) -> None:
    """Save a rewritten model as ``model.save`` was asked to; Keras answers for formats that it alone knows."""
    if names_format(filepath, save_format):
        save_model(model, filepath, overwrite=overwrite, **options)
    else:
        named = {} if save_format is None else {"save_format": save_format}
        type(model).save(model, filepath, overwrite=overwrite, **named, **options)


do_with(save=_save)
