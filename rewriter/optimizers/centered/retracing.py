"""Models and functions that train already, when their optimizer is centered: their traced steps are the plain ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.layout import layout_of

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def go_on_centered(optimizer: Any, observe: Callable[[Any, Sequence[Any]], None]) -> None:
    """Have what trains with an optimizer take centered steps from the next one on.

    Without this a ``fit`` goes on with the steps that were traced before, and nothing says that these are not centered.

    Args:
        optimizer: The optimizer, centered now. Nothing has been traced of one whose slots are not made yet.
        observe: What has it look at the layers of variables, which a step of Keras 3 on JAX needs beforehand.
    """
    if keras.optimizer_slots(optimizer) is None:
        return
    graphs = keras.graphs
    counter = frozenset() if graphs is None else keras.remember(optimizer.iterations).handles  # in every traced step
    for holder in keras.holders_alive():
        if isinstance(holder, keras.Model):
            trains = keras.optimizer_of(holder)
            if trains is not None and keras.inner_optimizer(trains) is optimizer and holder.built:
                variables = keras.trained_variables(holder)
                if any(map(layout_of, variables)):
                    observe(optimizer, variables)
                keras.reset_traced_functions(holder)
        elif graphs is not None and graphs.is_traced_function(holder) and graphs.has_traced(holder, counter):
            graphs.take_traces(holder)
