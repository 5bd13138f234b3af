"""Which layers of a model a centered optimizer leaves out: those that its selectors do not choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.layout import augmented_kernels, is_merged

from ...adapters import keras
from ...model.selectors import select
from ...model.walk import locate_layers

if TYPE_CHECKING:
    from .optimizer import State


def leave_out(optimizer: Any, state: State, model: Any) -> None:
    """Resolve the selectors of a centered optimizer in a model that it trains.

    Args:
        optimizer: The optimizer.
        state: What it has beside its slots; ``left_out`` is set.
        model: The model. Without a merged layer in it nothing is done.

    Raises:
        SelectorError: A selector matches no merged layer.
    """
    merged = [found for found in locate_layers(model) if is_merged(found.layer)]
    if not merged:
        return
    chosen = select(merged, state.include, state.exclude).chosen
    here, left_out = set(), set()
    for found in merged:
        keys = {keras.variable_key(optimizer, kernel) for kernel in augmented_kernels(found.layer)}
        here |= keys
        left_out |= keys if id(found.layer) not in chosen else set()
    # One optimizer may train several models.
    state.left_out = frozenset((state.left_out or frozenset()) - here | left_out)
