"""Errors in a user's rule: raised when its class is defined, or with the layer at which a step fails.

What takes a training to see is for the author's tests: :func:`rewriter.testing.check_joint_optimizer`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core.errors import OptimizerError, first_line
from rewriter.core.layout import layout_of
from rewriter.core.log import warn

from ..adapters import keras
from .hyperparameters import require_one_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# What a rule may write, and what each is given.
_HOOKS = {
    "update_layer": ("gradient", "variable", "layout"),
    "update_layers": ("layers",),
    "update_other": ("gradient", "variable"),
    "initial_slot": ("name", "variable", "shape"),
    "slot_shape": ("name", "variable"),
    "slot_dtype": ("variable",),
    "condense": ("name", "values", "layout"),
}
_NOT_TO_WRITE = {
    # Keras calls it at every eager step, and a merge would have to undo what it does.
    "build": "which makes the slots: name them in slots, say what they start with in initial_slot, and make a state of "
    "the whole optimizer in __init__ with self.add_variable",
    "update_step": "which hands out the variables: write update_layer for whole layers, and update_other for the rest",
}


def require_rule_class(cls: type) -> None:
    """Raise ``TypeError`` if a class overrides what a rule must not, or a method has the wrong parameters."""
    own = vars(cls)
    for name, instead in _NOT_TO_WRITE.items():
        if name in own:
            raise TypeError(f"{cls.__name__} must not override {name}, {instead}.")
    for name, given in _HOOKS.items():
        if not inspect.isfunction(own.get(name)):
            continue
        try:
            inspect.signature(own[name]).bind(None, *given)
        except TypeError:
            takes = inspect.signature(own[name])
            raise TypeError(
                f"{cls.__name__}.{name} must take (self, {', '.join(given)}), in that order; it takes "
                f"({', '.join(takes.parameters)})."
            ) from None


def require_extents(optimizer: Any, legal: Collection[str]) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless the slots of a rule are a dict of names and legal extents."""
    name = type(optimizer).__name__
    if not isinstance(optimizer.slots, dict):
        raise TypeError(
            f"{name}.slots must be a dict, as {{'velocity': 'full'}}: name to extent; got {optimizer.slots!r}."
        )
    for slot, extent in optimizer.slots.items():
        require_one_of(f"the extent of slot {slot!r} of {name}", extent, legal)


def _slots_defined_in(cls: type) -> Mapping[str, str]:
    slots = vars(cls).get("slots")
    return slots if isinstance(slots, dict) else {}


def no_slot(optimizer: Any, name: str) -> str:
    """Return the message that a rule has no slot of some name, and whether a parent class has."""
    cls, slots = type(optimizer), ", ".join(optimizer.slots) or "none"
    parent = next((each.__name__ for each in cls.__mro__[1:] if name in _slots_defined_in(each)), None)
    hint = f" {parent} has it: name those of a parent again, slots = {{**{parent}.slots, ...}}." if parent else ""
    return f"{cls.__name__} has no slot {name!r}; its slots are {slots}.{hint}"


def initial_slot(optimizer: Any, name: str, variable: Any, shape: tuple[int, ...]) -> Any:
    """Return the first value of a slot, as the rule gives it.

    Raises:
        OptimizerError: It is no tensor of the slot's shape and dtype, and no numbers of that shape.
    """
    dtype, value = keras.dtype_of(optimizer.slot_dtype(variable)), optimizer.initial_slot(name, variable, shape)
    start = value if keras.ops.owns(value) else np.asarray(value)
    numeric = keras.ops.owns(value) or start.dtype.kind in "biuf"
    if not numeric or tuple(start.shape) != shape or (keras.ops.owns(value) and keras.dtype_of(value.dtype) != dtype):
        given = f"{keras.dtype_of(start.dtype).name} of shape {tuple(start.shape)}" if numeric else repr(value)
        raise OptimizerError(
            f"{type(optimizer).__name__}.initial_slot must give {dtype.name} of shape {shape} for the slot {name!r} of "
            f"{_described(variable)}; it gave {given}. super().initial_slot(name, variable, shape) gives zeros."
        )
    return value if keras.ops.owns(value) else keras.ops.convert_to_tensor(start, dtype)


def run_hook(optimizer: Any, hook: str, gradient: Any, variable: Any, *layout: Any) -> None:
    """Run a rule on one variable; ``OptimizerError`` says at which layer, with which rows and slots, it failed."""
    try:
        _warn_of_steps(optimizer, hook, getattr(optimizer, hook)(gradient, variable, *layout), [variable])
    except OptimizerError:
        raise
    except Exception as error:
        slots = [f"{name} {tuple(optimizer.slot(name, variable).shape)}" for name in optimizer.slots]
        having = f", slots {', '.join(slots)}" if slots else ""
        raise OptimizerError(
            f"{type(optimizer).__name__}.{hook} failed at {_described(variable)}{having}: "
            f"{type(error).__name__}: {first_line(error)}{_hint(error)}"
        ) from error


def run_hook_for_all(optimizer: Any, layers: Sequence[Any]) -> None:
    """Run a rule on all layers at once; ``OptimizerError`` says which those are if it failed."""
    try:
        _warn_of_steps(optimizer, "update_layers", optimizer.update_layers(layers), [each.variable for each in layers])
    except OptimizerError:
        raise
    except Exception as error:
        raise OptimizerError(
            f"{type(optimizer).__name__}.update_layers failed at {len(layers)} layers, "
            f"{'; '.join(_described(layer.variable) for layer in layers)}: {type(error).__name__}: {first_line(error)}"
            f"{_hint(error)}"
        ) from error


def _hint(error: Exception) -> str:
    """Say what stands for an ``if`` where a step is traced, if that is what failed."""
    is_condition = type(error).__name__ in {"OperatorNotAllowedInGraphError", "TracerBoolConversionError"}
    package = "tf" if keras.NAME == "tf_keras" else "keras.ops"
    return f" In a step that is traced, {package}.cond stands for an if." if is_condition else ""


def _warn_of_steps(optimizer: Any, hook: str, returned: Any, variables: Sequence[Any]) -> None:
    """Warn of a rule that returns its steps, as those of optax do, and may assign nothing."""
    found = returned if isinstance(returned, list | tuple) else [returned]
    # What assign returns is a variable.
    steps = [each for each in found if keras.ops.owns(each) and not keras.is_variable(each)]
    if steps and [tuple(each.shape) for each in steps] == [tuple(each.shape) for each in variables[: len(steps)]]:
        warn(
            f"{type(optimizer).__name__}.{hook} returned a tensor, which is ignored: a rule assigns its step to the "
            "variable, as in variable.assign_sub(step), and returns nothing."
        )


def _described(variable: Any) -> str:
    layout = layout_of(variable)
    rows = "" if layout is None else f", kernel rows {_span(layout.kernel_rows)}, bias {_span(layout.bias_rows)}"
    return f"{keras.name_of(variable)} of shape {tuple(variable.shape)}{rows}"


def _span(rows: slice) -> str:
    return f"{rows.start or 0}:{rows.stop}"
