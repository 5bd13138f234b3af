"""Layers that call a rewritten cell in a loop: they slice its augmented kernel before the loop, not in every step."""

from __future__ import annotations

from typing import Any

from rewriter.core.layout import is_merged

from ..adapters import keras
from .augmented_layers import Augmented, augmented_class, standard_class
from .walk import locate_layers


def slice_outside_loops(model: Any) -> list[tuple[Any, Any]]:
    """Give the recurrent layers of a model over rewritten cells a class that slices the kernels once a call.

    Sliced inside the loop, a kernel is copied in every step, and its gradient in every step back.

    Returns:
        The layers for which that is a change, with their former class.
    """
    layers = [found.layer for found in locate_layers(model)]
    changed = [(layer, type(layer)) for layer in layers if _loops_over_rewritten(layer)]
    for layer, _ in changed:
        keras.set_class(layer, augmented_class(standard_class(layer), exact=True, pairs=()))
    return changed


def _loops_over_rewritten(layer: Any) -> bool:
    if not isinstance(layer, keras.layer_classes("RNN")) or isinstance(layer, Augmented):
        return False
    return any(is_merged(inner) for inner in keras.layers_below(layer))
