"""What ``model.load_weights`` of a rewritten model reads besides: files of the plain model, with its optimizer."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import h5py

from rewriter.core.errors import OptimizerError
from rewriter.core.layout import AUGMENTED_KERNEL

from ..adapters import keras
from ..model.augmented_layers import FormNoticed, asked_for_form
from ..rewriting.model_methods import do_with
from ..rewriting.split import standard_form

if TYPE_CHECKING:
    from collections.abc import Callable


def _load_weights(model: Any, filepath: Any, *args: Any, **options: Any) -> Any:
    """Load weights as Keras does; in standard form where the file has them so, as Keras would load the plain model."""

    def load() -> Any:
        return type(model).load_weights(model, filepath, *args, **options)

    by_layers = str(filepath).endswith((".keras", ".weights.h5", ".weights.json"))
    if not (_loads_standard_form(model, load) if by_layers else _is_plain_legacy(filepath)):
        return load()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OptimizerError):  # its state cannot be split, so that in the file is not for it
            stack.enter_context(standard_form(model))
        return load()


def _loads_standard_form(model: Any, load: Callable[[], Any]) -> bool:
    """Tell whether Keras's own way of loading would give merged layers the weights of the standard form.

    It is asked of the first of them. What is loaded before will be loaded again.
    """
    held = vars(model)
    before = {name: held[name] for name in ("optimizer",) if name in held}
    try:
        held.update(dict.fromkeys(before))  # of another form its state would be an error, or skipped with a warning
        with warnings.catch_warnings(), asked_for_form():
            warnings.simplefilter("ignore")
            load()
    except FormNoticed as noticed:
        return noticed.is_standard
    except Exception:  # noqa: BLE001  it will be raised again
        return False
    finally:
        held.update(before)
    return False


def _is_plain_legacy(path: Any) -> bool:
    """Tell whether a file is a legacy ``.h5`` of weights, or of a model, none of which is an augmented kernel."""
    if keras.legacy is None or not str(path).endswith((".h5", ".hdf5")) or not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        layers = file.get("model_weights", file)
        if "layer_names" not in layers.attrs:
            return False
        groups = [group for group in layers.values() if "weight_names" in group.attrs]
        return not any(AUGMENTED_KERNEL in str(name) for group in groups for name in keras.legacy.weight_names(group))


do_with(load_weights=_load_weights)
