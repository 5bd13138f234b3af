"""Which merged layers give a model its outputs: those whose result reaches one with no merged layer between.

It is found in a run of the model, in which every merged layer's result is cut off from what it was made of. A plan says
it of layers that are to be merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.layout import layouts_in

from ..adapters import keras
from . import example_inputs
from .preserved_state import preserved
from .walk import locate_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rewriter.core.layout import Layout


def output_layers(
    model: Any, inputs: Any = None, layouts_of: Callable[[Any], Sequence[Layout]] = layouts_in
) -> frozenset[int]:
    """Return the ``id`` of each merged layer that gives a model an output; none where the run does not show any.

    Args:
        model: The model. What its call changes is put back.
        inputs: A batch that it takes; ``None`` makes one.
        layouts_of: Returns the layouts of a layer: those of layers that are merged, or are to be.
    """
    layers = [found.layer for found in locate_layers(model)]
    try:
        # Whatever a model raises on inputs made for it, it does not show its output layers.
        batch = example_inputs.make_inputs(model) if inputs is None else inputs
        if batch is None or not all(layer.built for layer in layers):
            return frozenset()
        further = example_inputs.make_all(model, keras.further_specs(model), len(keras.ops.flatten(batch)[0]))
        with preserved(model, *layers):
            return _found(lambda: model(batch, **further, **keras.training_argument(model, False)), layouts_of)
    except Exception:  # noqa: BLE001
        return frozenset()


def _found(call: Callable[[], Any], layouts_of: Callable[[Any], Sequence[Layout]]) -> frozenset[int]:
    owners: list[Sequence[int]] = []

    def run(cut: Callable[[Any], Any]) -> Any:
        owners.clear()

        def change(layer: Any, results: Any) -> Any:
            merged = _merged(layer, layouts_of)
            if not merged:
                return results

            def cut_off(result: Any) -> Any:
                if not keras.ops.is_floating(result):
                    return result
                owners.append([id(each) for each in merged])
                return cut(result)

            return keras.ops.map_structure(cut_off, results)

        with keras.changed_calls(change):
            return call()

    return frozenset(owner for number in keras.reaching(run) for owner in owners[number])


def _merged(layer: Any, layouts_of: Callable[[Any], Sequence[Layout]]) -> list[Any]:
    """List the merged layers of which a layer gives the results: itself, or the cells over which it runs a loop."""
    layouts = layouts_of(layer)
    if layouts:
        in_loop = any(layout.flow is not None and layout.flow.states for layout in layouts)
        return [] if in_loop else [layer]
    loops = isinstance(layer, keras.layer_classes("RNN"))
    return list(filter(layouts_of, keras.layers_below(layer))) if loops else []
