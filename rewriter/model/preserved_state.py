"""Restores what a run of a model changes: variables, random states, and plain attributes of users' layers."""

from __future__ import annotations

import contextlib
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.adapters import keras
from rewriter.model.variable_holders import held_variables, is_library_module, is_of_a_library

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OF_PYTHON = {"_thread", "weakref"}  # the locks and caches that each layer has
_PLAIN = (bool, int, float, str, type(None), np.ndarray)


@contextlib.contextmanager
def preserved(holder: Any, *inside: Any) -> Iterator[None]:
    """Inside, a layer or model may run; afterwards everything that it holds is as before.

    Args:
        holder: The layer or model.
        *inside: The layers inside it, in any depth.
    """
    holders = (holder, *inside)
    # Only a user's own code keeps numbers in plain attributes; Keras's layers keep state in variables.
    variables = _variables_of(holders)
    plain = [(each, _plain_attributes(each)) for each in holders if _is_of_a_user(each)]
    # Values that are read share the memory of the variables until these are assigned, so nothing is copied here.
    values = [each.read_value() for each in variables]
    try:
        with keras.kept_call_state(holder):
            yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for each, attributes in plain:
            _put_back(each, attributes)


def _variables_of(holders: Iterable[Any]) -> list[Any]:
    """List each variable that some layers reach, once; for a distributed one, its component on each device."""
    seen: dict[int, Any] = {}
    found: dict[int, Any] = {}
    for holder in holders:
        # A layer of Keras's own, with nothing of a user's in it, changes what it says that it does not train.
        of_it = [variable for _, variable in held_variables(holder, seen)] if _runs_users_code(holder) else []
        of_it += [*keras.own_weights(holder), *keras.states_of(holder)]
        found.update({id(single): single for each in of_it for single in keras.single_variables(each)})
    return list(found.values())


def _is_of_a_user(holder: Any) -> bool:
    return not all(map(is_of_a_library, type(holder).__mro__))


def _runs_users_code(holder: Any) -> bool:
    return _is_of_a_user(holder) or any(map(_is_users, vars(holder).values()))


def _is_users(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return not is_library_module(value.__module__)
    if isinstance(value, list | tuple | dict):
        return any(map(_is_users, value.values() if isinstance(value, dict) else value))
    return not (is_of_a_library(type(value)) or type(value).__module__ in _OF_PYTHON)


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
