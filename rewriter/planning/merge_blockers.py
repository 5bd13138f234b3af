"""Reasons not to merge a pair: other holders of its variables, and code that writes to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rewriter.core import hints, tables

from ..adapters import keras
from ..model.assigned_attributes import assigned_attributes
from ..model.variable_holders import held_variables
from .reasons import Skip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rewriter.core.messages import Message

    from ..model.pairs import Pair
    from ..model.walk import LocatedLayer


class Surroundings:
    """What the layers of a model hold, and what their code assigns to; looked up once for all decisions."""

    def __init__(self, model: Any, located: Sequence[LocatedLayer]) -> None:
        self._holders: dict[int, list[str]] = {}
        seen: dict[int, Any] = {}
        for path, layer in [("", model), *((found.paths[0], found.layer) for found in located)]:
            for name, variable in held_variables(layer, seen):
                self._holders.setdefault(id(variable), []).append(f"{path}.{name}" if path else name)
        self._revived: dict[int, str] = {}
        for holder in [model, *(found.layer for found in located)]:
            if keras.is_opaque(holder):
                self._revived.update(
                    {id(layer): type(holder).__name__ for layer in (holder, *keras.layers_below(holder))}
                )

    def blocker(self, located: LocatedLayer, pair: Pair) -> Message | None:
        """Return why a pair of a built layer cannot be merged, ``None`` if it can."""
        why = keras.computes_otherwise(located.layer)
        return Skip.COMPUTES_OTHERWISE(why=why) if why else self._of_weights(located, pair)

    def _of_weights(self, located: LocatedLayer, pair: Pair) -> Message | None:
        layer = located.layer
        weights: dict[str, Any] = {attribute: getattr(layer, attribute, None) for attribute in pair.attributes}
        # The cheap questions first; the last, about the code of the class, is asked of each owner too.
        for attribute, weight in weights.items():
            stored = keras.stored_attribute(layer, attribute)
            if not keras.is_variable(weight) or vars(layer).get(stored) is not weight:
                return Skip.REPLACED(attribute=attribute, kind=type(weight).__name__)
            if not keras.reads_as_stored(weight):
                return Skip.STORED_OTHERWISE(attribute=attribute, kind=type(weight).__name__)
            own = f"{located.paths[0]}.{stored}"
            others = [held for held in self._holders[id(weight)] if held != own]
            if others:
                return Skip.HELD_TWICE(names=(own, *others))
        if id(layer) in self._revived:
            return class_unknown(self._revived[id(layer)])
        for holder in (layer, *located.owners):
            written = assigned_attributes(type(holder), own=holder is layer) & set(weights)
            if written:
                return Skip.ASSIGNED_TO(
                    layer=type(holder).__name__, name=holder.name, attributes=tuple(sorted(written))
                )
        return _misfit(layer, pair, weights)


def class_unknown(name: str) -> Message:
    """Return the reason for a layer that Keras read from a SavedModel without its class."""
    return Skip.UNKNOWN_CLASS(layer=name, import_of=hints.import_of(), or_pass=hints.or_pass())


def _misfit(layer: Any, pair: Pair, weights: dict[str, Any]) -> Message | None:
    """Return why variables cannot be stacked, ``None`` if they can."""
    own = {id(weight) for weight in keras.own_weights(layer)}
    strangers = [attribute for attribute, weight in weights.items() if id(weight) not in own]
    if strangers:
        return Skip.NOT_ITS_OWN(attributes=tuple(strangers))
    dtypes = {attribute: keras.stored_dtype(weight).name for attribute, weight in weights.items()}
    if len(set(dtypes.values())) > 1:
        return Skip.SEVERAL_DTYPES(dtypes=tuple(f"{name} is {dtype}" for name, dtype in dtypes.items()))
    if len({bool(weight.trainable) for weight in weights.values()}) > 1:
        return Skip.PARTLY_TRAINABLE(attributes=tuple(weights))
    return misfit_of_shapes(pair, {attribute: tuple(weight.shape) for attribute, weight in weights.items()})


def misfit_of_shapes(pair: Pair, shapes: Mapping[str, tuple[int, ...]]) -> Message | None:
    """Return why weights of some shapes cannot be stacked as a pair, ``None`` if they can."""
    units = {}
    for weight in pair.weights:
        shape = shapes[weight.attribute]
        if any(-axis > len(shape) for axis in weight.outgoing):
            return Skip.NO_AXIS(attribute=weight.attribute, shape=tables.shape(shape), axis=min(weight.outgoing))
        units[weight.attribute] = math.prod(shape[axis] for axis in weight.outgoing)
    if len(set(units.values())) > 1:
        return Skip.UNITS_DIFFER(shapes=tuple(f"{each} {tables.shape(shapes[each])}" for each in units))
    return None
