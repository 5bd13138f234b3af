"""Which variables a layer holds, and by which ways: a variable that is reached by two cannot be replaced on one."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from rewriter import keras_internals

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBRARIES = ("builtins", "tf_keras", "tensorflow", "keras", "numpy", "rewriter")


def held_variables(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a layer holds, each with the way to it, first those that are its attributes.

    Then those in containers, modules and objects of a user's own that are attributes, however deep, and in closures of
    functions that are, or that were given to ``add_loss``; not those in Keras's own lists, nor in layers inside it.
    """
    inside = [("add_loss", keras_internals.own_losses(layer))]
    for name, value in vars(layer).items():
        if isinstance(value, tf.Variable):
            yield name, value
        elif not keras_internals.is_bookkeeping(name):
            inside.append((name, value))
    seen = {id(layer)}
    for name, value in inside:
        yield from _variables_in(value, name, seen)


def _variables_in(value: Any, way: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tf.Variable):
        yield way, value
        return
    if id(value) in seen or isinstance(value, str | bytes | int | float | tf.Tensor | type | tf_keras.layers.Layer):
        return
    seen.add(id(value))
    for step, each in _members(value):
        yield from _variables_in(each, f"{way}{step}", seen)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container, function or object holds, each with the step to it."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", each) for key, each in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{index}]", each) for index, each in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from (("()", each) for each in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, types.MethodType):
        yield "()", value.__self__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield "()", cell.cell_contents
            except ValueError:  # not filled yet
                continue
        yield from (("()", each) for each in value.__defaults__ or ())
    elif isinstance(value, tf.Module) or _is_of_a_user(value):
        yield from ((f".{name}", each) for name, each in getattr(value, "__dict__", {}).items())


def is_of_a_library(cls: type) -> bool:
    """Tell whether a class is Python's own, or of a library that this one knows: not of a user's code."""
    return cls.__module__.split(".")[0] in _LIBRARIES


def _is_of_a_user(value: Any) -> bool:
    return not any(is_of_a_library(cls) for cls in type(value).__mro__ if cls is not object)
