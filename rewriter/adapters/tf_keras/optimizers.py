"""Optimizers, current and legacy: their slots, their settings, and what Keras keeps of them beside both."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from tf_keras.src.mixed_precision.loss_scale_optimizer import BaseLossScaleOptimizer
from tf_keras.src.optimizers.legacy.optimizer_v2 import _var_key as legacy_variable_key

from ..nested_values import values_in
from ..records import DecayExclusions, Replaced, Slots
from .distribution import strategy_scope
from .layers import handles_of, is_bookkeeping, made_quickly
from .legacy import is_legacy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def inner_optimizer(optimizer: Any) -> Any:
    """Return the optimizer inside a ``LossScaleOptimizer``, which has the slots; any other optimizer as it is."""
    return optimizer.inner_optimizer if isinstance(optimizer, BaseLossScaleOptimizer) else optimizer


def is_optimizer(value: Any) -> bool:
    """Tell whether a value is an optimizer of tf-keras, current or legacy."""
    return is_legacy(value) or isinstance(value, tf_keras.optimizers.Optimizer)


def remember(variable: Any) -> Replaced:
    """Note what tells optimizers and graphs that hold a variable."""
    return Replaced(variable_key(None, variable), frozenset(map(id, handles_of(variable))))


def refuse_in_other_libraries(handles: frozenset[int]) -> None:
    """Do nothing: no other library trains variables of TensorFlow."""
    del handles


def set_key(tensor: Any, key: Any) -> None:
    """Give an eager tensor the key that optimizers ask variables for."""
    tensor._unique_id = key


def given_key(tensor: Any) -> Any:
    """Read the key that :func:`set_key` gave a tensor, ``None`` where it gave none."""
    return getattr(tensor, "_unique_id", None)


def variable_key(optimizer: Any, variable: Any) -> Any:
    """Read the key by which an optimizer knows a variable; for ``None`` the one that all use outside of graphs."""
    if optimizer is None or is_legacy(optimizer):
        return legacy_variable_key(variable)
    return optimizer._var_key(variable)


def optimizer_slots(optimizer: Any) -> Slots | None:
    """Read the slots of an optimizer, ``None`` where it is not built."""
    if optimizer is not None and is_legacy(optimizer):
        if not optimizer._weights:
            return None
        index = {key: place for place, key in enumerate(optimizer._slots)}
        lists = {
            name: [slots[name] for slots in optimizer._slots.values()]
            for name in optimizer.get_slot_names()
            if all(name in slots for slots in optimizer._slots.values())
        }
        return Slots(index, lists, list(optimizer._weights))
    if not getattr(optimizer, "_built", False):
        return None
    # Keras has no list of an optimizer's slots: any attribute with one variable for each that is trained is one.
    index = dict(optimizer._index_dict)
    lists = {
        name: list(value)
        for name, value in vars(optimizer).items()
        if name != "_variables" and name in getattr(optimizer, "slot_lists", vars(optimizer))
        if isinstance(value, list) and len(value) == len(index)
        if all(isinstance(slot, tf.Variable) for slot in value)
    }
    return Slots(index, lists, list(optimizer._variables))


def state_beside_slots(optimizer: Any) -> list[str]:
    """Name the attributes that hold state of an optimizer for single weights, beside its :func:`optimizer_slots`.

    That is a variable that is no scalar, also inside containers, and another optimizer that has slots of its own.
    """
    slots = optimizer_slots(optimizer)
    of_all = [*slots.lists.values()] if slots else []
    known = {id(slot) for of_one in of_all for slot in of_one}
    found = []
    for name, value in vars(optimizer).items():
        if name in {"_variables", "_weights", "_slots", "_index_dict"} or is_bookkeeping(name):
            continue
        for each in values_in(value):
            is_slot = isinstance(each, tf.Variable) and each.shape.rank != 0 and id(each) not in known
            if is_slot or (is_optimizer(each) and (of_it := optimizer_slots(inner_optimizer(each))) and of_it.lists):
                found.append(name)
                break
    return found


def build_slots(optimizer: Any, variables: Sequence[Any]) -> None:
    """Make the slots of an optimizer for some variables, where it has none yet, under its distribution strategy."""
    with strategy_scope(optimizer), made_quickly():
        if is_legacy(optimizer):
            optimizer._create_all_weights(variables)
        else:
            optimizer.build(variables)


def rebuild_slots(optimizer: Any, variables: Sequence[Any]) -> None:
    """Build an optimizer again for other variables; all but its slots stays as it is.

    The optimizer's own ``build`` makes the slots, so that their names and order are those of a loaded optimizer.
    """
    slots = optimizer_slots(optimizer)
    replaced = {id(slot) for slots_of_one in slots.lists.values() for slot in slots_of_one} if slots else set()
    if is_legacy(optimizer):
        # Its iterations are among the weights and are no slot, so they stay.
        optimizer._slots = {}
        optimizer._weights = [variable for variable in optimizer._weights if id(variable) not in replaced]
        if variables:  # not trained yet; Nadam asks for the first
            build_slots(optimizer, variables)
        return
    kept = dict(vars(optimizer))
    optimizer._variables = [variable for variable in optimizer._variables if id(variable) not in replaced]
    optimizer._built = False
    build_slots(optimizer, variables)
    # Nadam's build also resets its running product.
    for name, value in kept.items():
        if isinstance(value, tf.Variable | int) and name != "_built":
            object.__setattr__(optimizer, name, value)
    _forget_checkpoint_children(optimizer)


def put_slots(optimizer: Any, slots: Slots, moved: Mapping[int, Any] | None = None) -> None:
    """Give an optimizer slots it had before, the very same variables.

    Args:
        optimizer: The optimizer.
        slots: The slots.
        moved: The variables that the slots at some places belong to from now on, instead of those they belonged to.
    """
    moved_keys = {place: variable_key(optimizer, variable) for place, variable in (moved or {}).items()}
    index = {moved_keys.get(place, key): place for key, place in slots.index.items()}
    if is_legacy(optimizer):
        optimizer._slots = {
            key: {name: values[place] for name, values in slots.lists.items()} for key, place in index.items()
        }
        optimizer._weights = list(slots.variables)
        return
    for name, variables in slots.lists.items():
        setattr(optimizer, name, list(variables))
    optimizer._variables = list(slots.variables)
    optimizer._index_dict = index
    optimizer._built = True  # a second build may have failed
    _forget_checkpoint_children(optimizer)


def _forget_checkpoint_children(optimizer: Any) -> None:
    # Made once, at the first checkpoint, and never looked at again.
    vars(optimizer).pop("_coalesced_children", None)


def check_before_build(check: Callable[[Any, Sequence[Any]], None]) -> None:
    """Call ``check(optimizer, variables)`` whenever an optimizer of this process is about to make its slots.

    Keras offers no hook between ``compile`` and the first update, and a loop of a user's own calls no ``compile``. So
    the one method that every current optimizer passes through is replaced, here and for good.
    """
    base = next(cls for cls in tf_keras.optimizers.Optimizer.__mro__ if "build" in vars(cls))
    build = base.build

    @functools.wraps(build)
    def checked(optimizer: Any, var_list: Sequence[Any]) -> None:
        if not getattr(optimizer, "_built", False):
            check(optimizer, var_list)
        build(optimizer, var_list)

    base.build = checked


def learning_rate_of(optimizer: Any) -> Any:
    """Read the learning rate as given: a float, or the schedule itself.

    The time decay of a legacy optimizer, ``rate / (1 + decay * iterations)``, is given as the schedule it is.
    """
    # The public attribute of a schedule gives its present value, and the schedule would be lost.
    rate = optimizer._get_hyper("learning_rate") if is_legacy(optimizer) else optimizer._learning_rate
    if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule):
        return rate
    decay = optimizer._initial_decay if is_legacy(optimizer) else 0.0
    if decay:
        return tf_keras.optimizers.schedules.InverseTimeDecay(_number(rate), decay_steps=1, decay_rate=decay)
    return _number(rate)


def copy_iterations(optimizer: Any, other: Any) -> None:
    """Let an optimizer count on from where another one is."""
    optimizer.iterations.assign(other.iterations)


def iterations_of(optimizer: Any) -> int:
    """Read how many steps an optimizer has made."""
    return int(_number(optimizer.iterations))


def _number(value: Any) -> float:
    # A variable of a distribution strategy is no number to Python.
    return float(value.numpy() if isinstance(value, tf.Variable) else value)


def setting_of(optimizer: Any, name: str) -> Any:
    """Read a numeric setting of an optimizer, such as its momentum, as a Python number."""
    return _number(optimizer._get_hyper(name)) if is_legacy(optimizer) else getattr(optimizer, name)


def decay_exclusions(optimizer: Any) -> DecayExclusions:
    """Read what the user gave to ``exclude_from_weight_decay``; legacy optimizers have no weight decay."""
    keys = getattr(optimizer, "_exclude_from_weight_decay", None) or []
    return DecayExclusions(list(keys), list(getattr(optimizer, "_exclude_from_weight_decay_names", None) or []))


def name_for_patterns(name: str) -> str:
    """Return of a variable's name what patterns of ``exclude_from_weight_decay`` are searched in: all, ":0" too."""
    return f"{name}:0"


def exclude_from_decay(optimizer: Any, keys: Sequence[Any], patterns: Sequence[str] | None = None) -> None:
    """Exclude variables from weight decay, by key and, where they are given, by patterns of names; built or not."""
    optimizer._exclude_from_weight_decay = list(keys)
    if patterns is not None:
        optimizer._exclude_from_weight_decay_names = list(patterns)


def saved_variables(optimizer: Any) -> list[Any]:
    """List the variables of an optimizer in the order in which Keras saves them."""
    return list(inner_optimizer(optimizer).weights if is_legacy(optimizer) else optimizer.variables)


def load_variables(optimizer: Any, values: Sequence[Any]) -> None:
    """Give an optimizer, built, the values of :func:`saved_variables`; ``ValueError`` where they do not fit."""
    inner_optimizer(optimizer).set_weights(values)


def uncounted_variables(optimizer: Any) -> dict[str, Any]:
    """List the state of an optimizer that Keras leaves out of ``.keras`` and ``.h5`` files, by name.

    That is the scale and the counter of a dynamic loss scale, and the running product of Nadam.
    """
    # A static loss scale has no variables: its value is a setting.
    inner = inner_optimizer(optimizer)
    scale = getattr(optimizer, "_loss_scale", None) if inner is not optimizer else None
    found = {f"loss_scale.{name}": variable for (name, _), variable in getattr(scale, "_weights", {}).items()}
    if isinstance(getattr(inner, "_u_product", None), tf.Variable):
        found["u_product"] = inner._u_product
    return found


def recount_steps(optimizer: Any) -> None:
    """Make a loaded Nadam count the steps it has done, as it does while it trains eagerly."""
    inner = inner_optimizer(optimizer)
    if hasattr(inner, "_u_product_counter"):
        inner._u_product_counter = iterations_of(inner) + 1


def serialized_setting(optimizer: Any, value: Any) -> Any:
    """Return a setting of an optimizer as JSON data."""
    return optimizer._serialize_hyperparameter(value)


def place_among_slots(optimizer: Any, variable: Any) -> int | None:
    """Return the place of a variable in each list of an optimizer's slots, ``None`` where it has none."""
    place: int | None = optimizer._index_dict.get(optimizer._var_key(variable))
    return place


def uses_weight_decay(optimizer: Any, variable: Any) -> bool:
    """Tell whether a variable was not excluded from an optimizer's weight decay."""
    return bool(optimizer._use_weight_decay(variable))


def descend(variable: Any, gradient: Any, rate: Any) -> None:
    """Subtract ``rate * gradient`` from a variable, of a sparse gradient in the rows that it has."""
    if isinstance(gradient, tf.IndexedSlices):
        variable.scatter_sub(tf.IndexedSlices(rate * gradient.values, gradient.indices))
    else:
        variable.assign_sub(rate * gradient)


def is_constructed(optimizer: Any) -> bool:
    """Tell whether the ``__init__`` of this library's optimizers ran; a subclass may forget to call it."""
    return not vars(optimizer).keys().isdisjoint({"_learning_rate", "_hyper"})


def variables_not_saved(optimizer: Any) -> list[str]:
    """List the attributes whose variables tf-keras neither saves nor makes again."""
    saved = {id(variable) for variable in optimizer._variables}
    remade = {"_iterations", "_learning_rate", "_current_learning_rate"}
    return [
        name
        for name, value in vars(optimizer).items()
        if isinstance(value, tf.Variable) and name not in remade and id(value) not in saved
    ]


def put_last(optimizer: Any, variables: Sequence[Any]) -> None:
    """Have an optimizer save some variables, after all others and in this order; as soon as its slots are made.

    A checkpoint that was restored before hands out its values by position, to each variable as it comes.
    """
    if not getattr(optimizer, "_built", False):
        return
    saved = {id(each) for each in optimizer._variables}
    if not any(id(variable) in saved for variable in variables):
        optimizer._variables.extend(variables)
        return
    last = {id(variable) for variable in variables}
    if [id(each) for each in optimizer._variables[-len(variables) :]] != [id(each) for each in variables]:
        optimizer._variables = [*(each for each in optimizer._variables if id(each) not in last), *variables]
        _forget_checkpoint_children(optimizer)


def drop_variables(optimizer: Any, variables: Sequence[Any]) -> None:
    """Have an optimizer save some variables no more."""
    gone = {id(variable) for variable in variables}
    optimizer._variables = [each for each in optimizer._variables if id(each) not in gone]
    _forget_checkpoint_children(optimizer)
