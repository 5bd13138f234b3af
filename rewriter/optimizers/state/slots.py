"""Moves the slots of an optimizer from one set of variables to another.

A slot is what an elementwise optimizer keeps for each variable, in the variable's own shape (a momentum, a second
moment), so it is stacked and unstacked just as the weights are, and training goes on bit for bit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core import hints
from rewriter.core.derived_classes import original_class
from rewriter.core.errors import OptimizerError

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...adapters.records import Slots
# The optimizers whose rule treats each number by itself, so that stacking changes nothing of what they do.
ELEMENTWISE = frozenset(
    keras.optimizer_classes(
        *("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Ftrl", "Lion")
    )
)


@dataclass(frozen=True)
class SlotSource:
    """Where the slots of a variable come from.

    Attributes:
        variable: The variable they will belong to.
        places: The places of the slots they are made of, as :func:`slot_places` gave them.
        combine: Makes one slot of those, given the slot's name.
        undoes: Takes a slot apart again, to see whether a slot that is used again still is what it was. ``None`` if
            combining only copies: then it is filled again in any case, with the same numbers.
    """

    variable: Any
    places: tuple[int | None, ...]
    combine: Callable[[str, Sequence[Any]], Any]
    undoes: Callable[[str, Any, Sequence[Any]], bool] | None = None

    @property
    def trained(self) -> bool:
        """Whether the optimizer has the slots that these are made of."""
        return None not in self.places

    def parts(self, slots: Sequence[Any]) -> list[Any]:
        """Select from a list the slots that this one is made of."""
        return [slots[place] for place in self.places if place is not None]

    def value(self, name: str, slots: Sequence[Any]) -> Any:
        """Make the slot of some name from those in a list."""
        return self.combine(name, self.parts(slots))


def is_known(optimizer: Any) -> bool:
    """Tell whether an optimizer is known to go on bit for bit when its slots are stacked."""
    return original_class(type(keras.inner_optimizer(optimizer))) in ELEMENTWISE


def require_known(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise ``OptimizerError`` unless an optimizer is known to go on bit for bit when its slots are stacked.

    Args:
        optimizer: The optimizer.
        variables: All variables of the model.
    """
    cls = original_class(type(keras.inner_optimizer(optimizer)))
    if is_known(optimizer):
        return
    if cls in keras.optimizer_classes("Adafactor"):
        raise OptimizerError(
            f"{hints.KEEP_OPTIMIZER} cannot keep the state of Adafactor: its slots are not one number for each weight "
            f"but means over rows and columns. {hints.NEW_OPTIMIZER}."
        )
    require_own(optimizer, variables)  # what is said to do instead must do it
    raise OptimizerError(
        f"{hints.KEEP_OPTIMIZER} and {hints.CENTERED} are promised for the elementwise optimizers of {keras.NAME}, and "
        f"{cls.__module__}.{cls.__name__} is not one of them: its rule may treat a kernel and its bias differently "
        "once they are one variable. If you accept that, pass the optimizer itself, optimizer=model.optimizer: its "
        "slots are stacked all the same."
    )


def require_own(optimizer: Any, variables: Sequence[Any], elementwise: bool = True) -> None:
    """Raise ``OptimizerError`` unless the slots an optimizer has can be moved from a model's variables to others.

    Args:
        optimizer: The optimizer.
        variables: All variables of the model; the optimizer must have slots for no others.
        elementwise: Whether each slot must be one number for each weight.
    """
    inner = keras.inner_optimizer(optimizer)
    name = type(inner).__name__
    slots = keras.optimizer_slots(inner)
    # State in a dict or in an inner optimizer would stay behind in silence: nothing says which weight it belongs to.
    beside = keras.state_beside_slots(inner) if elementwise else []
    if beside:
        raise OptimizerError(
            f"the state of {name} cannot be kept: {' and '.join(beside)} holds state for single weights, and "
            "not as a list with one slot for each, as Keras's optimizers keep it. "
            f"{hints.NEW_OPTIMIZER}, to go on without that state."
        )
    if slots is None:
        return
    shapes = {keras.variable_key(inner, variable): variable.shape for variable in variables}
    # A rebuild makes slots for the variables of this model alone, and would drop those of another.
    foreign = [key for key in slots.index if key not in shapes]
    if foreign:
        raise OptimizerError(
            f"the state of {name} cannot be kept: it also trains {len(foreign)} variables that are not in this "
            "model. Compile the model with an optimizer of its own."
        )
    if elementwise and not _are_of(slots, shapes):
        raise OptimizerError(
            f"the state of {name} cannot be kept: its slots are not one number for each weight. {hints.NEW_OPTIMIZER}."
        )


def _are_of(slots: Slots, shapes: Mapping[Any, Any]) -> bool:
    """Tell whether each slot has the shape of its variable, as far as the variable's key is known."""
    return all(
        lists[place].shape == shapes.get(key, lists[place].shape)
        for lists in slots.lists.values()
        for key, place in slots.index.items()
    )


def require_separable(optimizer: Any, merged: Sequence[Any]) -> None:
    """Raise ``OptimizerError`` unless the slots an optimizer has for augmented kernels can be taken apart as these are.

    Args:
        optimizer: The optimizer.
        merged: The augmented kernels.
    """
    inner = keras.inner_optimizer(optimizer)
    slots = keras.optimizer_slots(inner)
    shapes = {keras.variable_key(inner, variable): variable.shape for variable in merged}
    if slots is not None and not _are_of(slots, shapes):
        raise OptimizerError(
            f"the state of {type(inner).__name__} cannot be split with the weights: its slots for "
            f"{keras.name_of(merged[0])} are not one number for each weight. Compile the model with another optimizer "
            "first, to go on without that state."
        )


def slot_places(optimizer: Any, variables: Sequence[Any], known: Slots | None = None) -> tuple[int | None, ...]:
    """Read the places of the slots of some variables, ``None`` for a variable that has none.

    Args:
        optimizer: The optimizer.
        variables: The variables.
        known: The optimizer's slots, where they were read before: to read them takes a look at each.
    """
    inner = keras.inner_optimizer(optimizer)
    slots = keras.optimizer_slots(inner) if known is None else known
    if slots is None:
        return (None,) * len(variables)
    return tuple(slots.index.get(keras.variable_key(inner, variable)) for variable in variables)


def without_slots(optimizer: Any, variables: Sequence[Any]) -> list[Any]:
    """List those of some variables for which an optimizer has no slots."""
    places = slot_places(optimizer, variables)
    return [variable for variable, place in zip(variables, places, strict=True) if place is None]


def require_slots_for(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise ``OptimizerError`` unless an optimizer, built, has slots for all of some variables."""
    unknown = without_slots(optimizer, variables)
    if unknown:
        raise OptimizerError(
            f"this {type(optimizer).__name__} does not know {unknown[0].name}, which was not trained when it was "
            "built: perhaps it was frozen then, or belongs to another model. Compile the model with a new optimizer."
        )


def has_slots_of(optimizer: Any, variables: Sequence[Any]) -> bool:
    """Tell whether an optimizer is built for any of some variables."""
    return any(place is not None for place in slot_places(optimizer, variables))


def have_same_state(one: Any, other: Any) -> bool:
    """Tell whether two optimizers of one class have taken as many steps and have equal slots, if both have any."""
    if keras.iterations_of(one) != keras.iterations_of(other):
        return False
    lists = [() if each is None else each.lists.values() for each in map(keras.optimizer_slots, (one, other))]
    pairs = zip(*(itertools.chain(*each) for each in lists), strict=False)
    values = (
        (keras.ops.convert_to_numpy(slot) for slot in pair) for pair in pairs if all(slot is not None for slot in pair)
    )
    return all(np.array_equal(*pair) for pair in values)


def move(optimizer: Any, sources: Sequence[SlotSource], reuse: Slots | None = None) -> None:
    """Move an optimizer with all its state to other variables, in place.

    Args:
        optimizer: A Keras optimizer that :func:`require_own` accepted, built or not.
        sources: For every variable of the model from now on, where its slots come from.
        reuse: Slots that the optimizer had for these variables before, to be filled instead of new ones; if some are
            not among them, because the optimizer was built since, all are new.
    """
    inner = keras.inner_optimizer(optimizer)
    old = keras.optimizer_slots(inner)
    if old is None:
        return
    trained = _in_order([source for source in sources if source.trained])
    # Reused slots keep a compiled fit valid, as its graph has captured them. Those of a build since are others.
    known = reuse and {keras.variable_key(inner, source.variable) for source in trained} <= {*reuse.index}
    if reuse is None or not known:
        keras.rebuild_slots(inner, [source.variable for source in trained])
    else:
        keras.put_slots(inner, reuse)
    # Read again: rebuilding made other lists.
    new = keras.optimizer_slots(inner)
    assert new is not None, "an optimizer stays built"  # noqa: S101
    # An optimizer that makes a list of slots in its own way, at the first step say, has none after a build.
    left = [name for name in old.lists if name not in new.lists]
    if left:
        raise OptimizerError(
            f"the state of {type(inner).__name__} cannot be kept: its build makes no new {' and '.join(left)} "
            "for merged weights, and what it has is for the old ones. Make them in build, each time it is "
            f"called. {hints.NEW_OPTIMIZER}, to go on without that state. Nothing was changed."
        )
    for source in trained:
        place = new.index[keras.variable_key(inner, source.variable)]
        for name, slots in new.lists.items():
            parts = source.parts(old.lists[name])
            if reuse is None or source.undoes is None or not source.undoes(name, slots[place], parts):
                slots[place].assign(source.value(name, old.lists[name]))


def _in_order(sources: list[SlotSource]) -> list[SlotSource]:
    """Sort sources into the order of the optimizer's slots, in which files restore them.

    That is the order of the model's weights if the optimizer had them in that order before, else that of the slots.
    """
    places = [min(place for place in source.places if place is not None) for source in sources]
    first_of_each = list(dict.fromkeys(places))
    if first_of_each == sorted(first_of_each):
        return sources
    # The sort is stable: weights that come from one slot keep their own order.
    return [source for _, source in sorted(zip(places, sources, strict=True), key=lambda each: each[0])]
