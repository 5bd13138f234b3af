"""What ``model.load_weights`` of a rewritten model reads besides: a legacy ``.h5`` of the plain model's weights."""

from __future__ import annotations

from typing import Any

import h5py

from rewriter.core.layout import AUGMENTED_KERNEL

from ..adapters import keras
from ..rewriting.model_methods import do_with
from ..rewriting.split import standard_form


def _load_weights(model: Any, filepath: Any, *args: Any, **options: Any) -> Any:
    """Load weights as Keras does; in standard form where the file has them so, as it goes by how many a layer has."""
    if not _is_plain_legacy(filepath):
        return type(model).load_weights(model, filepath, *args, **options)
    with standard_form(model):
        return type(model).load_weights(model, filepath, *args, **options)


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
