"""Models and functions that train already, when their optimizer is centered: their traced steps are the plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable


def trained_models(optimizer: Any) -> list[Any]:
    """List the models alive and built that are compiled with an optimizer, also inside a ``LossScaleOptimizer``."""
    return [
        holder
        for holder in keras.holders_alive()
        if isinstance(holder, keras.Model) and holder.built and _inner_optimizer_of(holder) is optimizer
    ]


def _inner_optimizer_of(model: Any) -> Any:
    optimizer = keras.optimizer_of(model)
    return None if optimizer is None else keras.inner_optimizer(optimizer)


def go_on_centered(optimizer: Any, observe: Callable[[Any, Any], None]) -> None:
    """Have what trains with an optimizer take centered steps from the next one on.

    Without this a ``fit`` goes on with the steps that were traced before, and nothing says that these are not centered.

    Args:
        optimizer: The optimizer, centered now. Nothing has been traced of one whose slots are not made yet.
        observe: What has it look at the layers of a model, which a step of Keras 3 on JAX needs beforehand.
    """
    if keras.optimizer_slots(optimizer) is None:
        return
    # Not by its iterations: where gradients are accumulated, Keras 3 computes them.
    variables = map(keras.remember, filter(keras.is_variable, keras.saved_variables(optimizer)))
    handles = frozenset[int]().union(*(each.handles for each in variables))
    for model in trained_models(optimizer):
        observe(optimizer, model)
        keras.reset_traced_functions(model)
    functions = keras.functions
    if functions is not None:
        for holder in keras.holders_alive():
            if functions.is_traced_function(holder) and functions.has_traced(holder, handles):
                functions.take_traces(holder)
