"""``load_model``: reads both forms, after a check of the file, with everything that Keras does not restore."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

from rewriter.core import progress
from rewriter.core.errors import FileError, RewriterError, first_line
from rewriter.core.flags import require_flags
from rewriter.core.layout import is_merged
from rewriter.core.log import warn
from rewriter.core.saved_state import NOT_LOADED

from ..adapters import keras, required
from ..model.walk import locate_layers, require_model
from ..optimizers.observed_model import observe_model
from ..rewriting.invalidation import reset_functions
from ..rewriting.model_methods import take_over_methods
from . import manifest
from .formats import Format, as_path, format_of, read_manifest
from .nested_layers import merge_at
from .optimizer_state import (
    restore_from_checkpoint,
    restore_from_file,
    restore_optimizer,
    restore_uncounted,
)
from .untrusted.code_objects import explain, layers_of_applications, require_safe, require_safe_graph
from .untrusted.integrity import allowance, checked_config, limited_variables

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path


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
        safe_mode: Refuse what would run code from the file, a Lambda layer above all, in every format.

    Returns:
        The model.

    Raises:
        FileError: The file is missing, is not a model, or Keras cannot read it.
        TypeError: ``compile`` or ``safe_mode`` is neither ``True`` nor ``False``.
    """
    require_flags(compile=compile, safe_mode=safe_mode)
    model, dropped = read_model(path, custom_objects, compile, safe_mode)
    if dropped:
        warn(f"{path}: {dropped}")
    return model


def read_model(
    path: str | os.PathLike[str],
    custom_objects: dict[str, Any] | None = None,
    compile: bool = True,  # noqa: A002  the name Keras gives it
    safe_mode: bool = True,
) -> tuple[Any, str]:
    """Read a model as :func:`load_model` does.

    Returns:
        The model, and what of its optimizer's state could not be loaded; ``""`` if all was.
    """
    file = as_path(path)
    with progress.stage(f"reading {file.name}"):
        return _read(file, custom_objects, compile, safe_mode)


def _read(
    source: Path,
    custom_objects: dict[str, Any] | None,
    compile: bool,  # noqa: A002  the name Keras gives it
    safe_mode: bool,
) -> tuple[Any, str]:
    kind = format_of(source)
    configs = checked_config(source, kind)
    try:
        described = read_manifest(source)
    except (ValueError, OSError, KeyError) as error:
        raise FileError(f"{source}: damaged, {first_line(error)}") from error
    if described is not None:
        manifest.require_readable(described, str(source))
    require_safe(source, configs, custom_objects, safe_mode)
    if kind is Format.SAVED_MODEL:
        require_safe_graph(source, safe_mode)
    options = {"safe_mode": safe_mode} if kind is Format.KERAS else {}
    custom_objects = {**layers_of_applications(configs), **(custom_objects or {})}
    if kind is Format.H5:
        custom_objects = {**required(keras.legacy, "an .h5 file").registered_optimizers(), **custom_objects}
    try:
        with _silent_on_state(), keras.safe_mode_scope(safe_mode), limited_variables(source, allowance(source)):
            model = keras.load_model(str(source), custom_objects=custom_objects, compile=compile, **options)
            require_model(model)
            return model, _restore(source, kind, model, described or {})
    except FileError:
        raise
    except RewriterError as error:
        raise FileError(f"{source}: {error}") from error
    except Exception as error:
        raise FileError(f"{source}: {explain(error)}") from error


@contextlib.contextmanager
def _silent_on_state() -> Iterator[None]:
    """Let Keras not say that state is lost of which there is none yet, or which is loaded here.

    What is lost of it in the end is said after that.
    """

    def is_to_be_said(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Error in loading the saved optimizer state")

    logs = [logging.getLogger(name) for name in ("tensorflow", "absl")]  # those of tf-keras and of Keras 3
    for log in logs:
        log.addFilter(is_to_be_said)
    try:
        with warnings.catch_warnings():
            # An optimizer that has not trained yet has a count of steps and a learning rate, and Nadam one number more.
            fresh = "(.* saved optimizer has 2|'nadam.* saved optimizer has 3) variables"
            warnings.filterwarnings("ignore", message=f"Skipping variable loading for optimizer {fresh}")
            warnings.filterwarnings("ignore", message=f"{NOT_LOADED} Muon")  # its layers may be named anew
            yield
    finally:
        for log in logs:
            log.removeFilter(is_to_be_said)


def _restore(source: Path, kind: Format, model: Any, described: dict[str, Any]) -> str:
    """Restore what Keras does not; return what is lost of the optimizer, in words."""
    dropped = restore_from_checkpoint(source, model) if kind is Format.SAVED_MODEL else ""
    hidden = described.get("standard_form", False)
    origin, places = manifest.origin(described), manifest.places(described) if hidden else {}
    if hidden:
        merge_at(model, places)
        reset_functions(model)
    if any(is_merged(found.layer) for found in locate_layers(model)):
        take_over_methods(model, origin)
    if not keras.is_compiled(model) or not keras.is_optimizer(keras.optimizer_of(model)):
        return ""
    observe_model(keras.optimizer_of(model), model)
    if hidden:
        dropped = restore_optimizer(source, model)
    elif kind is not Format.SAVED_MODEL:
        dropped = restore_from_file(source, kind, model)
    if not dropped:
        restore_uncounted(model, described.get("optimizer_state", {}))
    return dropped
