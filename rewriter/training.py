"""The optimizer of a model across the rewrite: what is kept, what is converted, what starts anew."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from rewriter import keras_internals, slots
from rewriter.errors import OptimizerError
from rewriter.joint_momentum import JointMomentum
from rewriter.slots import SlotSource
from rewriter.walk import locate_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rewriter.layout import Layout

KEEP = "keep"


def choose_optimizer(model: Any, optimizer: Any) -> Any:
    """Decide which optimizer a rewritten model gets; touches nothing.

    Args:
        model: The model.
        optimizer: As in :func:`rewriter.rewrite`.

    Returns:
        The optimizer: the model's own, to be kept with its state, or another; ``None`` where there is none to keep.

    Raises:
        OptimizerError: ``optimizer`` is none of the choices, or the state of the model's own cannot be kept.
    """
    current = model.optimizer
    if isinstance(optimizer, str) and optimizer == KEEP:
        if current is not None and not _is_joint(current):
            slots.require_elementwise(current, model.variables)
        return current
    if optimizer is None:
        return joint_momentum_for(model)
    if not isinstance(optimizer, tf_keras.optimizers.Optimizer):
        raise OptimizerError(
            f"optimizer must be None, 'keep' or a tf_keras optimizer, got {optimizer!r} of type "
            f"{type(optimizer).__module__}.{type(optimizer).__name__}."
        )
    return optimizer


def joint_momentum_for(model: Any, learning_rate: float | None = None, momentum: float | None = None) -> Any:
    """Make the joint momentum of a model: with the settings given, else those of its compiled SGD, else the defaults.

    A model that has a joint momentum already keeps it, unless a setting is given.
    """
    settings: dict[str, Any] = {"learning_rate": learning_rate, "momentum": momentum}
    given = {name: value for name, value in settings.items() if value is not None}
    inner = slots.inner_optimizer(model.optimizer)
    if isinstance(inner, JointMomentum) and not given:
        return model.optimizer
    if isinstance(inner, tf_keras.optimizers.SGD | JointMomentum):
        given = {
            "learning_rate": keras_internals.learning_rate_of(inner),
            "momentum": inner.momentum,
            **given,
        }
    return JointMomentum(**given)


def describe_choice(current: Any, chosen: Any) -> str:
    """Say in one line what becomes of a model's optimizer and its state."""
    if chosen is None:
        return "optimizer: none, the model is not compiled"
    if current is chosen:
        return f"optimizer: {_name(chosen)} kept, with its state"
    if current is None:
        return f"optimizer: {_name(chosen)}, new, for compile(optimizer=model.optimizer, ...)"
    return f"optimizer: {_name(current)} replaced by {_name(chosen)}; the state of {_name(current)} is not carried over"


def install_optimizer(model: Any, optimizer: Any) -> None:
    """Give a model its optimizer: compiled into it with the loss scaling it had, or ready for ``compile``."""
    current = model.optimizer
    if optimizer is not current and optimizer is not None:
        keras_internals.set_optimizer(model, keras_internals.with_loss_scale_of(current, optimizer))


class OptimizerCarrier:
    """The state of an optimizer on its way from one form of a model to the other.

    Tell it of each layer before the layer changes, then :meth:`carry` once all have.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self._inner = slots.inner_optimizer(optimizer)
        self._before = keras_internals.optimizer_slots(self._inner)
        self._moves: list[Callable[[], Sequence[SlotSource]]] = []
        self._undo: list[tuple[Any, Layout, tuple[int | None, ...]]] = []

    def before_merge(self, layer: Any, layout: Layout) -> None:
        """Note that the weights of a layer are about to be merged."""
        places = self._places([getattr(layer, part.attribute) for part in layout.parts])
        condense = self._inner.condense if _is_joint(self.optimizer) else tf.identity
        self._undo.append((layer, layout, places))
        self._moves.append(
            lambda: [SlotSource(layer.augmented_kernel, places, lambda values: condense(layout.stack(values)))]
        )

    def before_separate(self, layer: Any, layout: Layout) -> None:
        """Note that the augmented kernel of a layer is about to be taken apart."""
        places = self._places([layer.augmented_kernel])
        self._moves.append(
            lambda: [
                SlotSource(getattr(layer, part.attribute), places, functools.partial(_part, layout, part.attribute))
                for part in layout.parts
            ]
        )

    def carry(self, model: Any, reuse: keras_internals.Slots | None = None) -> None:
        """Bring the optimizer's state to the variables the model has now."""
        moved = {id(source.variable): source for move in self._moves for source in move()}
        if self.optimizer is None or not moved:
            return
        unmoved = [variable for variable in model.variables if id(variable) not in moved]
        stay = [
            SlotSource(variable, (place,), lambda values: values[0])
            for variable, place in zip(unmoved, self._places(unmoved), strict=True)
        ]
        slots.carry(self._inner, [*moved.values(), *stay], reuse)

    def roll_back(self) -> None:
        """Give the optimizer back the slots it had, for the weights of layers merged and separated again."""
        if self._before is None:
            return
        keras_internals.put_slots(self._inner, self._before)
        for layer, layout, places in self._undo:
            weights = [getattr(layer, part.attribute) for part in layout.parts]
            for weight, place in zip(weights, places, strict=True):
                if place is not None:
                    keras_internals.set_slot_place(self._inner, weight, place)

    def _places(self, variables: Sequence[Any]) -> tuple[int | None, ...]:
        return slots.slot_places(self._inner, variables)


def _part(layout: Layout, attribute: str, values: Sequence[Any]) -> Any:
    return layout.views(*values)[attribute]


def standard_optimizer(optimizer: Any) -> Any:
    """Return the plain Keras optimizer for the standard form: an SGD for a joint one; others stay themselves."""
    if not _is_joint(optimizer):
        return optimizer
    return keras_internals.with_loss_scale_of(optimizer, slots.inner_optimizer(optimizer).standard_optimizer())


def reset_functions(model: Any) -> None:
    """Make everything that was traced of a model, and of other models with some of its layers, trace anew."""
    for found in locate_layers(model):
        keras_internals.forget_traced_methods(found.layer)
    for affected in models_over(model):
        keras_internals.reset_traced_functions(affected)
        keras_internals.forget_traced_methods(affected)


def models_over(model: Any) -> list[Any]:
    """List the models that share a layer with a model: itself, those inside it, and any other that is alive."""
    layers = {id(found.layer) for found in locate_layers(model)}
    return [model] + [
        other
        for other in keras_internals.models_alive()
        if other is not model and any(id(layer) in layers for layer in keras_internals.layers_below(other))
    ]


def _is_joint(optimizer: Any) -> bool:
    return isinstance(slots.inner_optimizer(optimizer), JointMomentum)


def _name(optimizer: Any) -> str:
    return type(slots.inner_optimizer(optimizer)).__name__
