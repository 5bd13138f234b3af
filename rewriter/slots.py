"""The slots of an optimizer, carried from one set of variables to another.

A slot is what an elementwise optimizer keeps for each variable, in the variable's own shape (a momentum, a second
moment), so it is stacked and unstacked just as the weights are, and training goes on bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tf_keras

from rewriter import keras_internals
from rewriter.errors import OptimizerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class SlotSource:
    """Where the slots of a variable come from.

    Attributes:
        variable: The variable they will belong to.
        places: The places of the slots they are made of, as :func:`slot_places` gave them.
        combine: Makes one slot of those.
    """

    variable: Any
    places: tuple[int | None, ...]
    combine: Callable[[Sequence[Any]], Any]


def inner_optimizer(optimizer: Any) -> Any:
    """Reach through a ``LossScaleOptimizer`` to the optimizer that keeps the slots."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def require_elementwise(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise ``OptimizerError`` unless the slots an optimizer has for a model's variables can be carried to others."""
    inner = inner_optimizer(optimizer)
    name = type(inner).__name__
    if not isinstance(inner, tf_keras.optimizers.Optimizer):
        raise OptimizerError(
            f"optimizer='keep' cannot carry the state of {type(inner).__module__}.{name}: only optimizers derived from "
            "tf_keras.optimizers.Optimizer are known. Compile with one of those, or pass another optimizer=."
        )
    slots = keras_internals.optimizer_slots(inner)
    if slots is None:
        return
    shapes = {keras_internals.variable_key(inner, variable): variable.shape for variable in variables}
    foreign = [key for key in slots.index if key not in shapes]
    if foreign:
        raise OptimizerError(
            f"optimizer='keep' cannot carry the state of {name}: it also trains {len(foreign)} variables that are not "
            "in this model. Compile the model with an optimizer of its own."
        )
    if any(lists[place].shape != shapes[key] for lists in slots.lists.values() for key, place in slots.index.items()):
        raise OptimizerError(
            f"optimizer='keep' cannot carry the state of {name}: its slots are not one number for each weight. "
            "Pass optimizer=None for joint momentum, or another optimizer."
        )


def slot_places(optimizer: Any, variables: Sequence[Any]) -> tuple[int | None, ...]:
    """Read the places of the slots of some variables, ``None`` for a variable that has none."""
    inner = inner_optimizer(optimizer)
    slots = keras_internals.optimizer_slots(inner)
    if slots is None:
        return (None,) * len(variables)
    return tuple(slots.index.get(keras_internals.variable_key(inner, variable)) for variable in variables)


def carry(optimizer: Any, sources: Sequence[SlotSource], reuse: keras_internals.Slots | None = None) -> None:
    """Move an optimizer, with its slots, its iterations and all else it counts, to other variables. In place.

    Args:
        optimizer: A tf-keras optimizer that :func:`require_elementwise` accepted, built or not.
        sources: For every variable of the model from now on, where its slots come from.
        reuse: Slots that the optimizer had for these variables before, to be filled instead of new ones.
    """
    inner = inner_optimizer(optimizer)
    old = keras_internals.optimizer_slots(inner)
    if old is None:
        return
    trained = [source for source in sources if None not in source.places]
    # The sort is stable: weights that come from one slot keep their own order.
    trained.sort(key=lambda source: min(place for place in source.places if place is not None))
    if reuse is None:
        keras_internals.rebuild_slots(inner, [source.variable for source in trained])
    else:
        keras_internals.put_slots(inner, reuse)
    new = keras_internals.optimizer_slots(inner)
    assert new is not None, "an optimizer stays built"  # noqa: S101
    for source in trained:
        place = new.index[keras_internals.variable_key(inner, source.variable)]
        for name, slots in new.lists.items():
            slots[place].assign(
                source.combine([old.lists[name][origin] for origin in source.places if origin is not None])
            )
