"""The slots of optimizers: which variable has which, how they are made and change hands."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
from keras.src.utils.tracking import DotNotTrackScope

from ..nested_values import values_in
from ..records import Slots
from .distribution import strategy_scope
from .layers import is_bookkeeping
from .loss_scale import WRAPPER
from .observation.layer_statistics import (
    attach,
    detach,
    is_kept_by_layer,
    with_statistics,
    without_statistics,
)
from .optimizers import inner_optimizer, is_optimizer, variable_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True)
class SlotsOfVariables(Slots):
    """The slots of an optimizer, and the variables that it trains: it lists them itself.

    Attributes:
        trained: The variables, and the statistics that layers keep among them, in the order of the optimizer.
        whole: The lists with all that the optimizer has in them: ``None`` for a statistic.
    """

    trained: list[Any] = field(default_factory=list)
    whole: dict[str, list[Any]] = field(default_factory=dict)


# Lists of variables that are no slots.
_OTHERS = {"_variables", "_trainable_variables"}


def optimizer_slots(optimizer: Any) -> Slots | None:
    """Read the slots of an optimizer, ``None`` where it is not built."""
    if not getattr(optimizer, "built", False):
        return None
    trained, whole = list(optimizer._trainable_variables), _whole_lists(optimizer)
    own = [place for place, variable in enumerate(trained) if not _is_overwritten(variable)]
    index = {variable_key(optimizer, trained[place]): new for new, place in enumerate(own)}
    lists = {name: [slots[place] for place in own] for name, slots in whole.items()}
    return SlotsOfVariables(index, lists, list(optimizer._variables), trained, whole)


def _is_overwritten(variable: Any) -> bool:
    """Tell whether what flows back to a variable takes its place, so that it has no slots.

    Of this kind are the statistics that layers keep for us, and what layers of float8 keep.
    """
    return is_kept_by_layer(variable) or bool(getattr(variable, "overwrite_with_gradient", False))


def _whole_lists(optimizer: Any) -> dict[str, list[Any]]:
    """Return the lists of slots as an optimizer has them.

    Keras has no list of these: any attribute with one variable for each that is trained is one.
    """
    trained = optimizer._trainable_variables
    return {
        name: list(value)
        for name, value in vars(optimizer).items()
        if name not in _OTHERS and name in getattr(optimizer, "slot_lists", vars(optimizer))
        if isinstance(value, list) and len(value) == len(trained)
        if all(
            isinstance(slot, keras.Variable) or (slot is None and _is_overwritten(variable))
            for slot, variable in zip(value, trained, strict=True)
        )
    }


def state_beside_slots(optimizer: Any) -> list[str]:
    """Name the attributes that hold state of an optimizer for single weights, beside its :func:`optimizer_slots`."""
    slots = optimizer_slots(optimizer)
    known = {id(slot) for of_one in (slots.lists.values() if slots else ()) for slot in of_one}
    found = []
    for name, value in vars(optimizer).items():
        if name in _OTHERS or is_bookkeeping(name):
            continue
        for each in values_in(value):
            is_slot = isinstance(each, keras.Variable) and len(each.shape) and id(each) not in known
            if is_slot or (is_optimizer(each) and (of_it := optimizer_slots(inner_optimizer(each))) and of_it.lists):
                found.append(name)
                break
    return found


def build_slots(optimizer: Any, variables: Sequence[Any]) -> None:
    """Make the slots of an optimizer for some variables, where it has none yet."""
    if not optimizer.built:
        with strategy_scope(optimizer), keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(with_statistics(variables))
        _settle(optimizer)
        _tell_wrapper(optimizer)


def rebuild_slots(optimizer: Any, variables: Sequence[Any]) -> None:
    """Build an optimizer again for other variables; all but its slots stays as it is."""
    slots = optimizer_slots(optimizer)
    replaced = [slot for of_one in slots.lists.values() for slot in of_one] if slots else []
    for slot in replaced:
        optimizer._untrack_variable(slot)
    others = _places_of_others(optimizer, variables) if slots else {}
    kept = {name: value for name, value in vars(optimizer).items() if isinstance(value, keras.Variable)}
    optimizer.built = False
    optimizer._trainable_variables_indices = {}
    trained = [each for of in (None, *variables) for each in (of, *others.get(id(of), ()))]
    build_slots(optimizer, [each for each in trained if each is not None])
    for name, value in kept.items():
        _put_back(optimizer, name, value)


def _put_back(optimizer: Any, name: str, variable: Any) -> None:
    """Give an optimizer back a variable of its own, such as Nadam's product, in the place of one that it made anew."""
    made, listed = vars(optimizer)[name], optimizer._variables
    if made is variable:
        return
    place = [each is made for each in listed].index(True)
    optimizer._untrack_variable(made)
    former = [each is variable for each in listed].index(True)
    listed.insert(place, variable)
    del listed[former if former < place else former + 1]
    with DotNotTrackScope():
        setattr(optimizer, name, variable)


def _places_of_others(optimizer: Any, variables: Sequence[Any]) -> dict[int, list[Any]]:
    """Return the overwritten variables of an optimizer that are no statistics of ours, by the ``id`` of the one before.

    Their order is that of the model: they come behind the same variable as they did.
    """
    known, before = {id(variable) for variable in variables}, id(None)
    others: dict[int, list[Any]] = {}
    for variable in without_statistics(optimizer._trainable_variables):
        if id(variable) in known:
            before = id(variable)
        elif _is_overwritten(variable):
            others.setdefault(before, []).append(variable)
    return others


def put_slots(optimizer: Any, slots: Slots, moved: Mapping[int, Any] | None = None) -> None:
    """Give an optimizer slots it had before, the very same variables.

    Args:
        optimizer: The optimizer.
        slots: The slots.
        moved: The variables that the slots at some places belong to from now on, instead of those they belonged to.
    """
    for variable in list(optimizer._variables):
        optimizer._untrack_variable(variable)
    for variable in slots.variables:
        optimizer._track_variable(variable)
    assert isinstance(slots, SlotsOfVariables), "they are an optimizer's of this Keras"  # noqa: S101
    with DotNotTrackScope():  # all are tracked that are its own
        for name, variables in slots.whole.items():
            setattr(optimizer, name, list(variables))
    own = [place for place, variable in enumerate(slots.trained) if not _is_overwritten(variable)]
    now = {own[place]: variable for place, variable in (moved or {}).items()}
    _train(optimizer, [now.get(place, variable) for place, variable in enumerate(slots.trained)])
    optimizer.built = True


def _train(optimizer: Any, variables: Sequence[Any]) -> None:
    """Note which variables an optimizer trains, in the order of its lists."""
    optimizer._trainable_variables_indices = {
        variable_key(optimizer, variable): place for place, variable in enumerate(variables)
    }
    with DotNotTrackScope():
        optimizer._trainable_variables = list(variables)
    average_statistics(optimizer)
    _settle(optimizer)
    _tell_wrapper(optimizer)


def before_the_trace() -> contextlib.AbstractContextManager[Any]:
    """Inside, values are made once: TensorFlow may be tracing a step, in which Keras builds the optimizer."""
    if keras.config.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    scope: contextlib.AbstractContextManager[Any] = tf.init_scope()
    return scope


def average_statistics(optimizer: Any) -> None:
    """Let a statistic be the moving average of itself: Keras expects one, and has none for what is overwritten."""
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if averages:
        pairs = zip(averages, optimizer._trainable_variables, strict=True)
        filled = [each if average is None and is_kept_by_layer(each) else average for average, each in pairs]
        object.__setattr__(optimizer, "_model_variables_moving_average", filled)  # past the tracking of variables


def _settle(optimizer: Any) -> None:
    """Have TensorFlow save lists that have changed: of a list that it tracks it expects that it only grows."""
    for value in (each.ref for each in getattr(optimizer, "_self_unconditional_checkpoint_dependencies", ())):
        if hasattr(value, "_non_append_mutation_value"):
            value._non_append_mutation_value = value._external_modification_value = False
            value._last_wrapped_list_snapshot = list(value._storage)


def _tell_wrapper(optimizer: Any) -> None:
    """Have the ``LossScaleOptimizer`` around an optimizer know which variables it trains."""
    wrapper = getattr(optimizer, WRAPPER, lambda: None)()
    if wrapper is not None and getattr(wrapper, "built", False):
        wrapper._trainable_variables_indices = dict(optimizer._trainable_variables_indices)
        with DotNotTrackScope():
            wrapper._trainable_variables = list(optimizer._trainable_variables)


def check_before_build(check: Callable[[Any, Sequence[Any]], None]) -> None:
    """Call ``check(optimizer, variables)`` whenever an optimizer of this process is about to make its slots."""
    base = next(cls for cls in keras.optimizers.Optimizer.__mro__ if "build" in vars(cls))
    build = base.build

    @functools.wraps(build)
    def checked(optimizer: Any, variables: Sequence[Any]) -> None:
        if not getattr(optimizer, "built", False):
            check(optimizer, variables)
        # A loss scale has no slots, and is to know of each gradient whether it is one.
        scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        build(optimizer, with_statistics(variables) if scales else variables)
        _accumulate_no_statistics(optimizer)

    base.build = checked


def _accumulate_no_statistics(optimizer: Any) -> None:
    """Drop the accumulators of statistics: Keras makes some for all variables, and never adds to these."""
    accumulators = getattr(optimizer, "_accumulated_gradients", None)
    if not accumulators:
        return
    for place, variable in enumerate(optimizer._trainable_variables):
        if is_kept_by_layer(variable) and accumulators[place] is not None:
            optimizer._untrack_variable(accumulators[place])
            accumulators[place] = None


def place_among_slots(optimizer: Any, variable: Any) -> int | None:
    """Return the place of a variable in each list of an optimizer's slots, ``None`` where it has none."""
    place: int | None = optimizer._trainable_variables_indices.get(variable_key(optimizer, variable))
    return place


def put_last(optimizer: Any, variables: Sequence[Any]) -> None:
    """Have an optimizer save some variables, after all others and in this order; as soon as its slots are made."""
    attach(optimizer, [variable for variable in variables if is_kept_by_layer(variable)])
    if not getattr(optimizer, "built", False):
        return
    for variable in without_statistics(variables):
        optimizer._untrack_variable(variable)
        optimizer._track_variable(variable)
    _train_with_statistics(optimizer)


def drop_variables(optimizer: Any, variables: Sequence[Any]) -> None:
    """Have an optimizer save some variables no more."""
    for variable in variables:
        if is_kept_by_layer(variable):
            detach(variable)
        else:
            optimizer._untrack_variable(variable)
    _settle(optimizer)
    if getattr(optimizer, "built", False):
        _train_with_statistics(optimizer)


def _train_with_statistics(optimizer: Any) -> None:
    """Have an optimizer know the statistics of its kernels, where the model has them: a step goes by position."""
    before = list(optimizer._trainable_variables)
    now = with_statistics(before)
    places = {id(variable): place for place, variable in enumerate(before)}
    for name, slots in _whole_lists(optimizer).items():
        found = [places.get(id(variable)) for variable in now]
        with DotNotTrackScope():
            setattr(optimizer, name, [None if place is None else slots[place] for place in found])
    _train(optimizer, now)
