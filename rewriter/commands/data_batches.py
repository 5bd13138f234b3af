"""A batch of data for a model: made of random numbers, or read from an ``.npz`` file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core import hints
from rewriter.core.arrays import rank_of
from rewriter.core.errors import FileError, ModelError, first_line

from ..adapters import keras
from ..model.example_inputs import input_names, make_inputs, specs_of
from ..rewriting.model_run import run_model

if TYPE_CHECKING:
    from pathlib import Path

ENOUGH = 32  # rows of a batch that is only looked at


@dataclass(frozen=True)
class Batch:
    """A batch of data.

    Attributes:
        inputs: Tensors in the structure the model takes.
        targets: Those it is trained towards; ``None``: towards zero, under the mean square of all outputs.
        is_fixed: Whether the model takes no batch of another size.
    """

    inputs: Any
    targets: Any = None
    is_fixed: bool = False

    @property
    def size(self) -> int:
        """The number of rows."""
        return int(keras.ops.flatten(self.inputs)[0].shape[0])

    def spec(self, tensor: Any) -> Any:
        """Return the spec of a tensor of the batch, for a function that is traced once for all batches."""
        return keras.new_spec([tensor.shape[0] if self.is_fixed else None, *tensor.shape[1:]], tensor.dtype)


def batch_for(model: Any, batch_size: int, data: Path | None = None) -> Batch:
    """Read a batch for a model from the first rows of a file; without a file, make a random batch.

    Args:
        model: The model; its compiled loss is used where the file has targets.
        batch_size: How many rows, where the model leaves that open.
        data: An ``.npz`` file as :func:`read_inputs` takes it, and ``y`` in it, the targets, if there are any.

    Raises:
        ModelError: There is no file, and the model does not say what it takes; or there are targets and no loss.
        FileError: As :func:`read_inputs`.
    """
    if data is None:
        inputs = make_inputs(model, batch_size)
        if inputs is None:
            raise ModelError(f"{model.name} does not say what it takes; give it a batch, {hints.Argument('data')}.")
        if specs_of(model)[1] and (note := run_model(model, like=model).note):
            raise ModelError(
                f"{model.name} knows only the shapes of its inputs, and a batch made from these does not fit: {note}."
            )
        return Batch(inputs, is_fixed=_is_fixed(model))
    arrays = _arrays(data, batch_size)
    targets = arrays.get("y")
    if targets is not None and not keras.is_compiled(model):
        raise ModelError(f"{data} has targets y, and the model has no loss for them: compile it, or leave out y.")
    inputs = _inputs(arrays, data, model)
    if targets is not None:
        _require_as_many_rows(data, {"the inputs": keras.ops.flatten(inputs)[0], "y": targets})
    return Batch(inputs, targets, _is_fixed(model))


def read_inputs(path: Path, model: Any, rows: int = ENOUGH) -> Any:
    """Read what a model takes from an ``.npz`` file: an array ``x``, or one for each input by its name.

    Args:
        path: The file.
        model: The model they are for.
        rows: How many of the first rows, at most.

    Returns:
        Tensors in the structure the model takes.

    Raises:
        FileError: The file cannot be read, or has neither ``x``, for a model of one input, nor all of the inputs.
    """
    return _inputs(_arrays(path, rows), path, model)


def _arrays(path: Path, rows: int) -> dict[str, Any]:
    if not path.exists():
        raise FileError(f"{path} does not exist; data is an .npz file of arrays, as numpy.savez writes it.")
    if not zipfile.is_zipfile(path):
        raise FileError(f"{path}: no .npz file of arrays, as numpy.savez(path, x=...) writes it.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: keras.ops.convert_to_tensor(file[name][:rows]) for name in file.files}
    except (zipfile.BadZipFile, EOFError, OSError, TypeError, ValueError) as error:
        raise FileError(f"{path}: no .npz file of arrays, {first_line(error)}") from error
    if not all(len(array.shape) and array.shape[0] for array in arrays.values()):
        raise FileError(f"{path} has an array without rows; each needs as many as the batch.")
    return arrays


def _inputs(arrays: dict[str, Any], path: Path, model: Any) -> Any:
    specs, _ = specs_of(model)
    names = input_names(model) or ["x"]
    if "x" in arrays and len(names) == 1:
        return arrays["x"]
    if not all(name in arrays for name in names):
        found = ", ".join(arrays) or "nothing"
        needed = f"for each of its inputs: {', '.join(names)}" if len(names) > 1 else f"x, or {names[0]}"
        raise FileError(f"{path} has {found}; {model.name} needs an array {needed}.")
    _require_as_many_rows(path, {name: arrays[name] for name in names})
    return {name: arrays[name] for name in names} if isinstance(specs, dict) else [arrays[name] for name in names]


def _require_as_many_rows(path: Path, arrays: dict[str, Any]) -> None:
    rows = {name: int(array.shape[0]) for name, array in arrays.items()}
    if len({*rows.values()}) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise FileError(f"{path}: its arrays have different numbers of rows: {counts}.")


def _is_fixed(model: Any) -> bool:
    specs = keras.ops.flatten(keras.input_specs(model))
    return any(spec is not None and rank_of(spec.shape) and spec.shape[0] is not None for spec in specs)
