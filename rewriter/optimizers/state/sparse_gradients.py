"""Layers that read sparse inputs, under optimizers that move only the rows that a batch touches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import OptimizerError

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Iterable


def require_dense_gradients(optimizer: Any, layers: Iterable[tuple[str, Any]]) -> None:
    """Raise ``OptimizerError`` if an optimizer that is kept would move more rows of a kernel than it does unmerged.

    The gradient of a kernel that is multiplied by a sparse tensor is sparse, and that of ``W*`` is dense.

    Args:
        optimizer: The optimizer.
        layers: The layers that are about to be merged, each with its path.
    """
    inner = keras.inner_optimizer(optimizer)
    for path, layer in layers:
        if keras.legacy is not None and keras.legacy.moves_touched_rows_alone(inner, layer):
            name = type(inner).__name__
            raise OptimizerError(
                f"{path} reads a sparse tensor, and the legacy {name} of this model moves only the rows of its kernel "
                f"that a batch touches. Merged, it would move all. {hints.Argument('exclude', path)} leaves the layer "
                f"as it is, or compile the model with tf_keras.optimizers.{name}, which moves all rows anyway."
            )
