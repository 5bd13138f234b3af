"""Restores what a run of a model changes: variables, random states, and plain attributes of users' layers."""

from __future__ import annotations

import contextlib
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adapters import keras
from .observation.inputs import unobserved
from .variable_holders import (
    held_variables,
    is_library_module,
    is_of_a_framework,
    is_of_a_users_class,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOCKS_AND_CACHES = {"_thread", "weakref"}  # which each layer has
_SMALL = 2**24  # bytes
_PLAIN = (bool, int, float, str, type(None), np.ndarray)


@contextlib.contextmanager
def preserved(holder: Any, *inside: Any) -> Iterator[None]:
    """Inside, a layer or model may run; afterwards its variables, random states and plain attributes are as before.

    What it sees adds to no sum of what layers see in training.

    Args:
        holder: The layer or model.
        *inside: The layers inside it, in any depth.
    """
    holders = (holder, *inside)
    # Only a user's own code keeps numbers in plain attributes; Keras's layers keep state in variables.
    variables = _variables_of(holders)
    plain = [(each, _plain_attributes(each)) for each in holders if is_of_a_users_class(each)]
    arrays = [(value, value.copy()) for _, of_it in plain for value in of_it.values() if _is_small_array(value)]
    values = [keras.value_now(each) for each in variables]
    try:
        with keras.kept_call_state(holder), unobserved():
            yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for array, copy in arrays:
            if array.tobytes() != copy.tobytes():
                array[...] = copy
        for each, attributes in plain:
            _put_back(each, attributes)


@contextlib.contextmanager
def nothing_made(*holders: Any) -> Iterator[None]:
    """Inside, no variable can be made; afterwards attributes of users' layers that were ``None`` or not there are so.

    Code that runs in training alone may build a layer then, or keep a function that it has traced: not for a check.

    Args:
        *holders: The model and the layers in it.

    Raises:
        NewVariableError: Inside, where a variable would be made.
    """
    before = [(each, dict(vars(each))) for each in holders if is_of_a_users_class(each)]
    try:
        with keras.no_new_variables():
            yield
    finally:
        for each, attributes in before:
            for name in [name for name in vars(each) if name not in attributes]:
                with contextlib.suppress(AttributeError):
                    delattr(each, name)
            for name, value in attributes.items():
                if value is None and vars(each).get(name) is not None:
                    with contextlib.suppress(AttributeError):
                        setattr(each, name, None)


def _variables_of(holders: Sequence[Any]) -> list[Any]:
    """List each variable that a call of some layers may change, once; of a distributed one, that on each device."""
    seen: dict[int, Any] = {}
    found: dict[int, Any] = {}
    of_a_user = {id(holder) for holder in holders if _runs_users_code(holder)}
    for holder in holders:
        # A layer of Keras's own, with nothing of a user's in it, changes what it says that it does not train.
        of_it = list(keras.states_of(holder))
        if of_a_user:
            of_it += keras.own_weights(holder)
        if id(holder) in of_a_user:
            of_it += (variable for _, variable in held_variables(holder, seen))
        found.update({id(single): single for each in of_it for single in keras.single_variables(each)})
    return list(found.values())


def _runs_users_code(holder: Any) -> bool:
    return is_of_a_users_class(holder) or any(map(_is_users, vars(holder).values()))


def _is_users(value: Any) -> bool:
    if type(value) in _PLAIN:
        return False
    if isinstance(value, types.FunctionType):
        return not is_library_module(value.__module__)
    if isinstance(value, list | tuple | dict):
        return any(map(_is_users, value.values() if isinstance(value, dict) else value))
    return not (is_of_a_framework(type(value)) or type(value).__module__ in _LOCKS_AND_CACHES)


def _is_small_array(value: Any) -> bool:
    """Tell whether something is an array that a layer may count in, and no table or dataset, to be copied in vain."""
    return isinstance(value, np.ndarray) and value.nbytes <= _SMALL


def _is_plain(value: Any) -> bool:
    return isinstance(value, _PLAIN) or keras.is_tensor(value)


def _plain_attributes(holder: Any) -> dict[str, Any]:
    """Read the attributes that are numbers, texts or tensors, and how long each list of such is."""
    attributes = {name: value for name, value in vars(holder).items() if _is_plain(value)}
    return {**attributes, **{name: len(value) for name, value in _lists_of(holder)}}


def _lists_of(holder: Any) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in vars(holder).items()
        if isinstance(value, list) and not keras.is_bookkeeping(name)
    ]


def _put_back(holder: Any, attributes: dict[str, Any]) -> None:
    for name, value in _lists_of(holder):
        if name in attributes and all(_is_plain(each) for each in value[attributes[name] :]):
            keras.shorten(value, attributes[name])
    for name, value in list(vars(holder).items()):
        if not _is_plain(value):
            continue
        if name not in attributes:
            del vars(holder)[name]
        elif value is not attributes[name]:
            object.__setattr__(holder, name, attributes[name])
