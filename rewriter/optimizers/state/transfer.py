"""Transfers the state of an optimizer between the two forms of a model."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core.layout import is_merged, layout_of

from ...adapters import keras
from .. import weight_decay
from ..centered.moved_slots import centered_slot, uncentering
from ..centered.optimizer import is_centered
from ..joint_optimizer import is_joint
from ..rule_errors import initial_slot
from . import slots
from .slots import SlotSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rewriter.core.layout import Layout

    from ...adapters.records import Replaced, Slots


class StateTransfer:
    """Where each slot of an optimizer goes while layers are merged or separated.

    Call it before each layer changes. Once all have changed, :meth:`move` moves the state, or :meth:`sources` lists
    what another optimizer can start from.
    """

    def __init__(self, optimizer: Any, elsewhere: Sequence[Any] = ()) -> None:
        """Begin a transfer.

        Args:
            optimizer: The optimizer; ``None`` for none.
            elsewhere: The variables that it trains and that are not in the model.
        """
        self.optimizer = optimizer
        self._elsewhere = elsewhere
        self._inner = keras.inner_optimizer(optimizer)
        self._before = keras.optimizer_slots(self._inner)
        self._moves: list[Callable[[], Sequence[SlotSource]]] = []
        self._undo: list[tuple[Callable[[], Sequence[Any]], tuple[int | None, ...]]] = []
        self._excluded: list[weight_decay.Excluded] = []
        self._kernels: set[Any] = set()  # by their keys, those augmented that layers had, or got

    def before_merge(self, layer: Any, layout: Layout) -> None:
        """Note that the weights of a layer are about to be merged, in one of its augmented kernels."""
        self._note_exclusions(layer, layout)
        # Places, and not slots: the old lists are read when all layers have changed.
        places = self._places([getattr(layer, part.attribute) for part in layout.parts])
        condense = functools.partial(_condensed, self._inner) if is_joint(self.optimizer) else self._stacked(layout)
        self._undo.append((lambda: [getattr(layer, part.attribute) for part in layout.parts], places))
        self._moves.append(
            lambda: [
                SlotSource(
                    getattr(layer, layout.attribute),
                    places,
                    lambda name, values: condense(name, values, getattr(layer, layout.attribute)),
                    functools.partial(self._is_stacked, layer, layout) if is_centered(self._inner) else None,
                )
            ]
        )

    def before_separate(self, layer: Any, layout: Layout) -> None:
        """Note that an augmented kernel of a layer is about to be taken apart."""
        self._note_exclusions(layer, layout)
        kernel = getattr(layer, layout.attribute)
        places = self._places([kernel])
        self._undo.append((lambda: [getattr(layer, layout.attribute)], places))
        # Now: when the state is moved the optimizer is centered no more.
        whole = uncentering(self._inner, kernel)

        def part_of(attribute: str, name: str, values: Sequence[Any]) -> Any:
            return layout.views(whole(name, values[0]))[attribute]

        self._moves.append(
            lambda: [
                SlotSource(getattr(layer, part.attribute), places, functools.partial(part_of, part.attribute))
                for part in layout.parts
            ]
        )

    def sources(self, model: Any) -> list[SlotSource]:
        """List, for every variable the model has now, where its slots come from, in the order of training."""
        # The moves are functions, called now: the new variables were not there when they were noted.
        moved = {id(source.variable): source for move in self._moves for source in move()}
        # Trained first, in the order of training; then those that are frozen now and were trained before.
        of_model = filter(keras.is_variable, [*keras.trained_variables(model), *model.variables])
        variables = [*of_model, *self._elsewhere]
        unmoved = [variable for variable in variables if id(variable) not in moved]
        stay = {
            id(variable): SlotSource(variable, (place,), functools.partial(self._left, variable))
            for variable, place in zip(unmoved, self._places(unmoved), strict=True)
        }
        sources = {**moved, **stay}
        ordered = dict.fromkeys(id(variable) for variable in variables)
        return [sources.pop(key) for key in ordered] + list(sources.values())

    def _left(self, variable: Any, name: str, values: Sequence[Any]) -> Any:
        """Return the slot of a variable that stays, or a new one where a rule keeps another form of it from now on."""
        return _fitting(self._inner, name, values[0], variable) if is_joint(self.optimizer) else values[0]

    def move(self, model: Any, reuse: Slots | None = None) -> None:
        """Move the optimizer's state to the variables that the model has now."""
        if self.optimizer is not None and self._moves:
            self._exclude()  # before it is built: an optimizer that knows no rows refuses
            slots.move(self._inner, self.sources(model), reuse)

    @property
    def replaced(self) -> list[Replaced]:
        """The slots that the optimizer had: a function that was traced with them goes on with them."""
        lists = self._before.lists.values() if self._before is not None else ()
        return [keras.remember(slot) for several in lists for slot in several if keras.is_variable(slot)]

    def copy_exclusions(self, optimizer: Any) -> None:
        """Copy this optimizer's weight-decay exclusions to its replacement."""
        if self._excluded:
            weight_decay.copy_exclusions(self._inner, keras.inner_optimizer(optimizer), self._excluded)

    def roll_back(self) -> None:
        """Restore the slots that the optimizer had, after layers were changed and changed back."""
        self._exclude()
        if self._before is None:
            return
        moved = {
            place: variable
            for variables, places in self._undo
            for variable, place in zip(variables(), places, strict=True)
            if place is not None
        }
        keras.put_slots(self._inner, self._before, moved)

    def _note_exclusions(self, layer: Any, layout: Layout) -> None:
        if self._inner is not None and weight_decay.has_exclusions(self._inner):
            self._excluded.append((layer, layout, weight_decay.excluded_parts(self._inner, layer, layout)))
            self._note_kernels(self._excluded[-1:])

    def _note_kernels(self, excluded: Sequence[weight_decay.Excluded]) -> None:
        merged = [getattr(layer, layout.attribute) for layer, layout, _ in excluded if is_merged(layer)]
        self._kernels.update(keras.variable_key(self._inner, kernel) for kernel in merged)

    def _exclude(self) -> None:
        if self._excluded:
            weight_decay.exclude_parts(self._inner, self._excluded, gone=self._kernels)
            self._note_kernels(self._excluded)

    def _places(self, variables: Sequence[Any]) -> tuple[int | None, ...]:
        return slots.slot_places(self._inner, variables, self._before)

    def _stacked(self, layout: Layout) -> Callable[..., Any]:
        """Return what stacks slots, in the coordinates in which the optimizer takes its steps."""

        def stack(name: str, values: Sequence[Any], kernel: Any) -> Any:
            return centered_slot(self._inner, name, kernel, layout.stack(values))

        return stack

    def _is_stacked(self, layer: Any, layout: Layout, name: str, whole: Any, values: Sequence[Any]) -> bool:
        """Tell whether a slot in the coordinates of the step is what it was when it was taken apart, bit for bit."""
        taken_apart = uncentering(self._inner, getattr(layer, layout.attribute))(name, whole)
        before, now = (keras.ops.convert_to_numpy(each) for each in (taken_apart, layout.stack(values)))
        return np.array_equal(before, now, equal_nan=True)


def _condensed(optimizer: Any, name: str, values: Sequence[Any], kernel: Any) -> Any:
    """Make the slot of an augmented kernel from those of its parts, or let it start anew.

    Args:
        optimizer: A joint optimizer.
        name: The slot's name, that of one of Keras's own slots too.
        values: The slot of each part.
        kernel: The augmented kernel.
    """
    layout = layout_of(kernel)
    assert layout is not None, "it is an augmented kernel"  # noqa: S101
    return _fitting(optimizer, name, optimizer.condense(name, values, layout), kernel)


def _fitting(optimizer: Any, name: str, slot: Any, variable: Any) -> Any:
    """Return a slot of a variable, or one that starts anew where a joint optimizer wants another shape."""
    if name not in optimizer.slots or tuple(slot.shape) == (shape := optimizer.slot_shape(name, variable)):
        return slot
    return initial_slot(optimizer, name, variable, shape)
