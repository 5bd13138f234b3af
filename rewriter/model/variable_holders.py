"""Which variables a layer holds, and how they are reached: one that is reached twice cannot be replaced.

A way leads through everything from which Keras or TensorFlow calls a user's code in training: functions given to
``add_loss``, losses, metrics, regularizers, constraints and schedules, a ``train_step`` or ``call`` of one's own, and
the arguments that a layer was called with in a Functional model.
"""

from __future__ import annotations

import collections
import functools
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import CodeType

_FRAMEWORKS = ("builtins", "tf_keras", "tensorflow", "keras", "jax", "jaxlib", "torch", "numpy", "rewriter")
_OF_PYTHON = sys.stdlib_module_names  # its code holds no variables, but its objects may: a SimpleNamespace, for example
_CONTAINERS: tuple[type, ...] = (
    *(dict, types.MappingProxyType, list, tuple, set, frozenset, collections.deque, np.ndarray),
    *(type({}.keys()), type({}.values()), type({}.items())),
)
_REFERENCES = "tensorflow.python.util.object_identity"  # where what variable.ref() returns has its class
_HOLDS_NOTHING = (str, bytes, int, float, type)
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})  # most of what there is: left out first
_BUILT_BY_KERAS = frozenset({"build", "__init__"})  # what these read is what the layer is made of


def held_variables(layer: Any, seen: dict[int, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a layer holds, each with the way to it, first those that are its attributes.

    Then those in containers, modules and objects that are attributes, however deep, in functions by their closures and
    by the names of globals that they use, and in the code of a user's class; not those in Keras's own lists, nor in
    layers inside it.

    Args:
        layer: A layer or model.
        seen: What was looked into for other layers, by ``id``, and is not looked into again: who holds a variable in
            common code is named once.
    """
    attributes = {name: value for name, value in keras.attributes_of(layer).items() if not keras.is_bookkeeping(name)}
    yield from ((name, value) for name, value in attributes.items() if keras.is_variable(value))
    inside = [(name, value) for name, value in _inside(layer) if not keras.is_variable(value)]
    for way, value in _found_in(inside, {} if seen is None else seen):
        if keras.is_variable(value):
            yield way, value


def held_layers(layer: Any) -> list[Any]:
    """List the layers that a layer holds itself, or that its code reaches by other ways; not those inside of these."""
    found = {id(value): value for _, value in _found_in(_inside(layer), {}) if not keras.is_variable(value)}
    return list(found.values())


def variables_of(function: Any) -> list[tuple[str, Any]]:
    """List the variables that a function, traced or not, holds itself, each with the way to it."""
    return [(way, value) for way, value in _found_in([("", function)], {}) if keras.is_variable(value)]


def functions_of(*holders: Any) -> list[types.FunctionType]:
    """List the functions of a user that are called with some objects: of their classes, and of what they hold and call.

    Of an overridden method only the override is listed.
    """
    seen: dict[int, Any] = {}
    for holder in holders:
        for _ in _found_in(_inside(holder), seen):
            pass
    return [value for value in seen.values() if isinstance(value, types.FunctionType)]


def _inside(layer: Any) -> list[tuple[str, Any]]:
    """List all that a layer holds and that is called with it, each with its name."""
    held = [(name, value) for name, value in keras.attributes_of(layer).items() if not keras.is_bookkeeping(name)]
    return [*held, *keras.called_in_training(layer), *_code_of(type(layer))]


def _code_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the functions and other values that a user's class has, and its parents that are a user's."""
    overridden = set(_BUILT_BY_KERAS)
    for base in cls.__mro__:
        if not is_of_a_library(base):
            yield from ((name, value) for name, value in vars(base).items() if name not in overridden)
        overridden |= vars(base).keys()


def _found_in(values: list[tuple[str, Any]], seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the variables and layers that some values lead to, each with its way.

    A loop and no recursion, as a chain of functions may be long.
    """
    waiting = _not_plain(values)
    while waiting:
        way, value = waiting.pop()
        if keras.is_variable(value) or _is_a_layer_by_itself(value):
            yield way, value
        elif not (id(value) in seen or _holds_nothing(value)):
            seen[id(value)] = value  # kept, so that its id stays its own
            waiting += [(f"{way}{step}", each) for step, each in _not_plain(_members(value))]


def _not_plain(values: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """List those that may lead further, the last one first."""
    return [named for named in values if type(named[1]) not in _PLAIN][::-1]


def has_users_code(model: Any) -> bool:
    """Tell whether a model or a layer in it is of a user's class, or of one derived from that."""
    return any(is_of_a_users_class(each) for each in (model, *keras.layers_below(model)))


def is_of_a_users_class(value: Any) -> bool:
    """Tell whether the class of an object, or one of its parents, is no library's."""
    return not all(map(is_of_a_library, type(value).__mro__))


def _holds_nothing(value: Any) -> bool:
    return isinstance(value, _HOLDS_NOTHING) or keras.is_tensor(value)


def _is_a_layer_by_itself(value: Any) -> bool:
    # Metrics are layers to Python, but no part of what the model computes.
    return isinstance(value, keras.Layer) and not isinstance(value, keras.Metric)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container, function or object holds, each with the step to it."""
    if isinstance(value, _CONTAINERS):
        yield from _items_of(value)
    elif isinstance(value, functools.partial):
        yield from (("()", each) for each in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, types.MethodType):
        yield from (("()", each) for each in (value.__self__, value.__func__))
    elif isinstance(value, property):
        yield from (("()", each) for each in (value.fget, value.fset) if each is not None)
    elif isinstance(value, staticmethod | classmethod):
        yield "()", value.__func__
    elif isinstance(value, types.FunctionType):
        yield from _used_by(value)
    elif (referent := _referent_of(value)) is not None:
        yield referent
    elif keras.may_hold_users_code(value) or _is_of_a_user(value):
        held = list(getattr(value, "__dict__", {}).items())
        yield from ((f".{name}", each) for name, each in held if not keras.is_bookkeeping(name))
        yield from ((f".{name}", each) for name, each in _code_of(type(value)))


def _referent_of(value: Any) -> tuple[str, Any] | None:
    """Return what a reference refers to, or a traced function was made of, with the step to it."""
    if isinstance(value, weakref.ref):
        return "()", value()
    if type(value).__module__ == _REFERENCES and hasattr(type(value), "deref"):
        return ".deref()", value.deref()
    if keras.functions is not None and keras.functions.is_traced_function(value):
        return "", value.python_function
    return None


def _items_of(container: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container has, and what it has it by: a key may be a reference to a variable."""
    if isinstance(container, dict | types.MappingProxyType):
        yield from ((f"[{key!r}]", each) for key, each in list(container.items()))
        yield from ((" as a key", key) for key in list(container))
    elif not isinstance(container, np.ndarray):
        yield from ((f"[{index}]", each) for index, each in enumerate(container))
    elif container.dtype == object:
        yield from ((f"[{index}]", each) for index, each in enumerate(container.flat))


def _used_by(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function has in its closure and defaults, and the globals that its code names."""
    if is_library_module(function.__module__):
        return
    for cell in function.__closure__ or ():
        try:
            yield "()", cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from (("()", each) for each in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()))
    names = frozenset(_names_in(function.__code__))
    for name in names & function.__globals__.keys():
        used = function.__globals__[name]
        if not isinstance(used, types.ModuleType):
            yield f"() global {name}", used
        elif not is_library_module(used.__name__):
            yield from ((f"() global {name}.{each}", vars(used)[each]) for each in names & vars(used).keys())


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def is_of_a_library(cls: type) -> bool:
    """Tell whether a class is Python's own, or of a library that this one knows: not of a user's code."""
    return is_library_module(cls.__module__)


def is_of_a_framework(cls: type) -> bool:
    """Tell whether a class is a framework's or built in: its objects hold nothing of a user, but for containers."""
    return _is_of(cls.__module__, _FRAMEWORKS)


def is_library_module(name: Any) -> bool:
    """Tell whether a module of some name is Python's own, or of a library that this one knows.

    Compiled code, of Cython for example, may have no module name or a value of another type. It cannot be looked into.
    """
    return _is_of(name, _FRAMEWORKS) or _is_of(name, _OF_PYTHON)


def _is_of(name: Any, packages: Collection[str]) -> bool:
    return not isinstance(name, str) or name.partition(".")[0] in packages


def _is_of_a_user(value: Any) -> bool:
    return keras.is_module(value) or not is_of_a_framework(type(value))
