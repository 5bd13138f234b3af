"""A centered optimizer and the model that it trains: which of its layers are centered, and the means to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.adapters import keras
from rewriter.core.layout import augmented_kernels, is_merged
from rewriter.model.selectors import select
from rewriter.model.walk import locate_layers
from rewriter.optimizers.centered.optimizer import FIRST_MOMENTS, centered_slot, observe, observer_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable


def start_from(optimizer: Any, model: Any, look: Callable[[], None]) -> None:
    """Let a centered optimizer begin with the means of some inputs, and take its first moments there.

    Args:
        optimizer: The optimizer, just centered.
        model: The model that it trains.
        look: Calls the model on the inputs, with all its layers observed.
    """
    inner = keras.inner_optimizer(optimizer)
    look()
    slots = keras.optimizer_slots(inner)
    if slots is None:
        return
    for variable in keras.trained_variables(model):
        place = slots.index.get(keras.variable_key(inner, variable))
        for name in FIRST_MOMENTS & slots.lists.keys():
            if place is not None and observer_of(inner, variable) is not None:
                slot = slots.lists[name][place]
                slot.assign(centered_slot(inner, name, variable, slot))


def choose_layers(optimizer: Any, model: Any) -> None:
    """Resolve the selectors of a centered optimizer, and have the layers of a model that it centers observed.

    Args:
        optimizer: An optimizer; one that is not centered is left as it is.
        model: The model that it trains, rewritten.

    Raises:
        SelectorError: A selector matches no merged layer.
    """
    inner = keras.inner_optimizer(optimizer)
    state = state_of(inner)
    if state is None:
        return
    merged = [found for found in locate_layers(model) if is_merged(found.layer)]
    if merged:
        chosen = select(merged, state.include, state.exclude).chosen
        kernels = [
            kernel for found in merged if id(found.layer) not in chosen for kernel in augmented_kernels(found.layer)
        ]
        state.left_out = frozenset(keras.variable_key(inner, kernel) for kernel in kernels)
    observe(inner, keras.trained_variables(model))
