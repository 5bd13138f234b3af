"""What the arguments of a command mean: where it may write, and which batch it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.commands.data_batches import read_inputs
from rewriter.core.errors import FileError
from rewriter.files.atomic_write import writable

if TYPE_CHECKING:
    from pathlib import Path


def inputs_from(data: Path | None, model: Any) -> Any:
    """Read the batch in an ``.npz`` file; ``None`` where there is no file."""
    return None if data is None else read_inputs(data, model)


def output_path(path: Path, output: Path, overwrite: bool) -> Path:
    """Return where a command may write: not over its input, and over another file only if it is told to."""
    if path.exists() and output.exists() and path.samefile(output):
        raise FileError(f"{output} is the input itself; give another OUTPUT, the input is never written to.")
    if path.is_dir() and path.resolve() in output.resolve().parents:
        raise FileError(f"{output} is inside the input, which is never written to; give another OUTPUT.")
    return writable(output, overwrite)
