"""The arguments that commands share: where to write, and the batch in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.errors import FileError

from ..files.atomic_write import writable
from ..files.formats import format_of
from .data_batches import read_inputs

if TYPE_CHECKING:
    from pathlib import Path


def inputs_from(data: Path | None, model: Any) -> Any:
    """Read the batch in an ``.npz`` file; ``None`` without a file."""
    return None if data is None else read_inputs(data, model)


def output_path(path: Path, output: Path, overwrite: bool) -> Path:
    """Return the path to write to; ``FileError`` if the input is no model, or that path is not to be written to."""
    format_of(path)  # of two mistakes the one about the input is said first
    if output.exists() and path.samefile(output):
        raise FileError(f"{output} is the input itself; give another OUTPUT, the input is never written to.")
    if path.is_dir() and path.resolve() in output.resolve().parents:
        raise FileError(f"{output} is inside the input, which is never written to; give another OUTPUT.")
    return writable(output, overwrite)
