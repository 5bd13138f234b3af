"""What stands in the way of merging a pair: who else holds its variables, and whose code writes to them."""

from __future__ import annotations

import dis
import inspect
import itertools
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rewriter import keras_internals, tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType

    from rewriter.families import Family
    from rewriter.walk import LocatedLayer

NOT_BUILT = "not built, so it has no weights yet: call the model on a batch, or model.build(input_shape)"

_ASSIGNMENTS = frozenset({"assign", "assign_add", "assign_sub", "scatter_update", "scatter_add", "scatter_sub"})
_LOADS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_LIBRARIES = ("tf_keras.", "tensorflow.", "rewriter.")


class Surroundings:
    """What a model's layers hold and what their code does, looked up once for all decisions about the model."""

    def __init__(self, model: Any, located: Sequence[LocatedLayer]) -> None:
        self._holders: dict[int, list[str]] = {}
        for path, layer in [("", model), *((found.paths[0], found.layer) for found in located)]:
            for name, variable in _held_variables(layer):
                self._holders.setdefault(id(variable), []).append(f"{path}.{name}" if path else name)
        self._revived: dict[int, str] = {}
        for holder in [model, *(found.layer for found in located)]:
            if keras_internals.is_revived(holder):
                self._revived.update({id(layer): holder.name for layer in keras_internals.layers_below(holder)})

    def obstacle(self, located: LocatedLayer, family: Family) -> str | None:  # noqa: PLR0911  one for each obstacle
        """Say why a pair cannot be merged, ``None`` if it can; with what the user can do, where they can."""
        layer = located.layer
        if not layer.built:
            return NOT_BUILT
        attributes = (family.kernel, family.bias)
        weights: list[Any] = [getattr(layer, attribute, None) for attribute in attributes]
        for attribute, weight in zip(attributes, weights, strict=True):
            if not isinstance(weight, tf.Variable) or vars(layer).get(attribute) is not weight:
                return f"its {attribute} is no variable of its own but {type(weight).__name__}: something replaced it"
            if not keras_internals.reads_as_stored(weight):
                return f"its {attribute} is a {type(weight).__name__}, which may be read otherwise than it is stored"
            own = f"{located.paths[0]}.{attribute}"
            others = [held for held in self._holders[id(weight)] if held != own]
            if others:
                return f"{' and '.join([own, *others])} are one variable: merging would untie them"
        if id(layer) in self._revived:
            return (
                f"the class of {self._revived[id(layer)]!r}, which holds it, is not known here, and Keras runs a graph "
                "in its place: import the module of the class (--import), or pass custom_objects="
            )
        for holder in (layer, *located.owners):
            written = _written_by(type(holder), own=holder is layer) & set(attributes)
            if written:
                return f"the code of {type(holder).__name__} {holder.name!r} assigns to its {' and '.join(written)}"
        return _misfit(layer, *weights)


def _held_variables(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the variables among a layer's attributes and in their containers, but not in Keras's own lists."""
    for name, value in vars(layer).items():
        if isinstance(value, tf.Variable):
            yield name, value
        elif isinstance(value, list | tuple | dict) and not keras_internals.is_bookkeeping(name):
            for index, each in enumerate(value.values() if isinstance(value, dict) else value):
                if isinstance(each, tf.Variable):
                    yield f"{name}[{index}]", each


def _misfit(layer: Any, kernel: Any, bias: Any) -> str | None:
    """Say why two variables cannot be stacked in one, ``None`` if they can."""
    if tuple(kernel.shape[-1:]) != tuple(bias.shape):
        return f"kernel {tables.shape(kernel.shape)} and bias {tables.shape(bias.shape)} differ in units"
    dtypes = [keras_internals.stored_dtype(weight).name for weight in (kernel, bias)]
    if dtypes[0] != dtypes[1]:
        return f"kernel is {dtypes[0]} and bias is {dtypes[1]}: one variable has one dtype"
    if kernel.trainable != bias.trainable:
        return "of kernel and bias only one is trainable: one variable is trained whole"
    own = {id(weight) for weight in keras_internals.own_weights(layer)}
    return None if {id(kernel), id(bias)} <= own else "its kernel or bias is not among the layer's own weights"


def _written_by(cls: type, own: bool) -> set[str]:
    """List the attributes of a layer that a user's class writes to, outside ``build`` and constructors.

    Either replacing it, as in ``self.layer.kernel = normalized``, or in place, as in ``layer.kernel.assign(...)``: a
    view can take neither. Read from the bytecode, which is there where the source is not.

    Args:
        cls: The class of the layer, or of one that holds it.
        own: It is the class of the layer, so that what it writes to itself counts.
    """
    written: set[str] = set()
    for base in cls.__mro__:
        if f"{base.__module__}.".startswith(_LIBRARIES) or base is object:
            continue
        for name, function in vars(base).items():
            code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
            if code is not None and name not in {"__init__", "build"}:
                written |= _writes(code, own)
    return written


def _writes(code: CodeType, own: bool) -> set[str]:
    this = code.co_varnames[:1]
    written = set()
    for before, after in itertools.pairwise(dis.get_instructions(code)):
        loaded = before.argval if isinstance(before.argval, tuple) else (before.argval,)
        if after.opname == "STORE_ATTR" and (own or loaded[-1:] != this):
            written.add(after.argval)
        elif before.opname in _LOADS and after.opname in _LOADS and after.argval in _ASSIGNMENTS:
            written.add(before.argval)
    return written
