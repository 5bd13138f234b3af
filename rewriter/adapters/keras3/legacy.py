"""Optional: the ``.h5`` format. There are no legacy optimizers."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.legacy.saving.legacy_h5_format import load_attributes_from_hdf5_group


def is_legacy(optimizer: Any) -> bool:
    """Return ``False``."""
    del optimizer
    return False


def moves_touched_rows_alone(optimizer: Any, layer: Any) -> bool:  # noqa: ARG001
    """Tell whether an optimizer leaves rows of a kernel alone that a sparse tensor does not touch: none of Keras 3."""
    return False


def registered_optimizers() -> dict[str, Any]:
    """Return nothing: an ``.h5`` file names an optimizer as it is registered."""
    return {}


def has_bare_name(cls: type) -> bool:
    """Tell whether a class is not registered, so that the legacy format knows only its bare name."""
    return bool(keras.saving.get_registered_name(cls) == cls.__name__)


def weight_names(group: Any) -> list[str]:
    """List the weights that Keras has written into a group of an HDF5 file, in its order."""
    return list(load_attributes_from_hdf5_group(group, "weight_names"))
