"""Which merged layers give a model its outputs: those whose result reaches one with no merged layer between.

It is found in a run of the model, in which every merged layer's result is cut off from what it was made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.layout import is_merged

from ..adapters import keras
from . import example_inputs
from .augmented_layers import results_changed
from .preserved_state import preserved
from .walk import locate_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def output_layers(model: Any, inputs: Any = None) -> frozenset[int]:
    """Return the ``id`` of each merged layer that gives a model an output; none where the run does not show any.

    Args:
        model: The model, rewritten. What its call changes is put back.
        inputs: A batch that it takes; ``None`` makes one.
    """
    layers = [found.layer for found in locate_layers(model)]
    try:
        # Whatever a model raises on inputs made for it, it does not show its output layers.
        batch = example_inputs.make_inputs(model) if inputs is None else inputs
        if batch is None or not all(layer.built for layer in layers):
            return frozenset()
        further = example_inputs.make_all(model, keras.further_specs(model), len(keras.ops.flatten(batch)[0]))
        with preserved(model, *layers):
            return _found(lambda: model(batch, **further, **keras.training_argument(model, False)))
    except Exception:  # noqa: BLE001
        return frozenset()


def _found(call: Callable[[], Any]) -> frozenset[int]:
    owners: list[Sequence[int]] = []

    def run(cut: Callable[[Any], Any]) -> Any:
        owners.clear()

        def change(layer: Any, results: Any) -> Any:
            merged = [layer] if is_merged(layer) else list(filter(is_merged, keras.layers_below(layer)))

            def cut_off(result: Any) -> Any:
                if not keras.ops.is_floating(result):
                    return result
                owners.append([id(each) for each in merged])
                return cut(result)

            return keras.ops.map_structure(cut_off, results)

        with results_changed(change):
            return call()

    return frozenset(owner for number in keras.reaching(run) for owner in owners[number])
