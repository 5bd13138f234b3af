"""Pairs that the user tells: which attributes of a layer that nobody registered belong together."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.adapters import tf_keras as keras
from rewriter.core import hints, tables
from rewriter.core.errors import PairError
from rewriter.core.layout import is_merged
from rewriter.core.suggestions import closest, did_you_mean
from rewriter.model.families import family_of_class
from rewriter.model.pairs import Pair, Weight
from rewriter.model.variable_holders import held_variables

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class _Told:
    """What was said of one pair; the axes are known once a layer is built."""

    kernels: tuple[str, ...]
    biases: tuple[str, ...]
    units: tuple[int, ...] | None

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.kernels + self.biases


# Forgotten along with the layer or class that it is about.
_TOLD: weakref.WeakKeyDictionary[Any, tuple[_Told, ...]] = weakref.WeakKeyDictionary()


def pair(
    layer_or_class: Any,
    kernel: str | Sequence[str] = "kernel",
    bias: str | Sequence[str] = "bias",
    units: int | Sequence[int] | None = None,
) -> None:
    """Say which weights of a layer that is not Keras's own belong together; the pass then treats it like any other.

        rewriter.pair(Mixing, kernel="w", bias="b")
        rewriter.pair(model.get_layer("gate"), kernel=("from_input", "from_state"), bias="b")

    A layer may have several pairs; tell each. Files of a rewritten model know its pairs and need not be told. What is
    told of a weight replaces what was told of it before, of the same layer or class; :func:`rewriter.unpair` takes
    all of it back. Layers that are rewritten stay so.

    Args:
        layer_or_class: A layer, or a class of layers: it and its subclasses.
        kernel: The attribute that holds the kernel, or several whose products are added up.
        bias: The attribute that holds the bias, or several.
        units: The axes of each kernel that are its units, counted from the end: -1 where each column is a unit, as in
            Keras's own layers, -2 where each row of a matrix is. ``None`` takes the last axes, as many as fit the bias.

    Raises:
        PairError: It is no layer of tf-keras or one that is known; a weight is named twice, or is in a pair that was
            told of a class of the layer; a built layer has no such weights, or they cannot be stacked. Of a class, the
            last two are found out by :func:`rewriter.plan`.
    """
    told = _Told(_names(kernel, "kernel"), _names(bias, "bias"), None if units is None else _axes(units))
    cls = layer_or_class if isinstance(layer_or_class, type) else type(layer_or_class)
    if not issubclass(cls, keras.Layer):
        raise PairError(f"rewriter.pair takes a tf_keras layer or a class of layers, got {layer_or_class!r}.")
    if not told.kernels or not told.biases:
        raise PairError(f"{cls.__name__}: a pair has a kernel and a bias at least; got {kernel!r} and {bias!r}.")
    family = family_of_class(cls)
    if family is not None:
        raise PairError(
            f"{cls.__name__} is a known layer, of which nothing need be told: "
            f"{hints.Argument('layers', family.name)} merges it."
        )
    if not isinstance(layer_or_class, type) and is_merged(layer_or_class):
        raise PairError(f"layer {layer_or_class.name!r} is rewritten already; rewriter.split(model) first.")
    twice = next((each for each in told.attributes if told.attributes.count(each) > 1), None)
    if twice is not None:
        raise PairError(f"{cls.__name__}: {twice} is named twice in one pair; each is a weight of its own.")
    before = _TOLD.get(layer_or_class, ())
    for base, other in _said_of(layer_or_class):
        common = sorted({*other.attributes} & {*told.attributes})
        if common and base is not layer_or_class and other != told:
            raise PairError(
                f"{cls.__name__}: {common[0]} is in a pair that was told of {_called(base)}, and can be merged "
                f"once. rewriter.unpair({_called(base)}) takes that back."
            )
    if layer_or_class is not cls and layer_or_class.built:
        _resolve(told, layer_or_class)
    _TOLD[layer_or_class] = (*(other for other in before if not {*other.attributes} & {*told.attributes}), told)


def unpair(layer_or_class: Any) -> None:
    """Take back all that :func:`rewriter.pair` was told of a layer or a class; of rewritten layers nothing changes.

    Args:
        layer_or_class: What was told of. What was told of its parent classes, or of single layers of it, stays.

    Raises:
        PairError: Nothing was told of it.
    """
    if not any(each is layer_or_class for each in list(_TOLD)):
        names = ", ".join(sorted(map(_called, list(_TOLD)))) or "nothing"
        raise PairError(f"rewriter.pair was told nothing of {_called(layer_or_class)}; it was told of {names}.")
    del _TOLD[layer_or_class]


def told_pairs(layer: Any) -> tuple[Pair, ...]:
    """Read which pairs were told of a built layer, or of a class of it.

    Returns:
        The pairs whose biases the layer has.

    Raises:
        PairError: The layer has no such weights, or they cannot be stacked.
    """
    said = dict.fromkeys(told for _, told in _said_of(layer))
    attributes = [attribute for told in said for attribute in told.attributes]
    twice = next((each for each in attributes if attributes.count(each) > 1), None)
    if twice is not None:
        raise PairError(
            f"{_name(layer)}: {twice} is in two pairs, told of it and of its classes; rewriter.unpair takes one back."
        )
    pairs = (_resolve(told, layer) for told in said)
    return tuple(pair for pair in pairs if pair is not None)


def is_told(layer: Any) -> bool:
    """Tell whether anything was told of a layer, or of a class of it."""
    return bool(_said_of(layer))


def _said_of(layer_or_class: Any) -> list[tuple[Any, _Told]]:
    """List what was told of a layer or class and of the classes above it, each after what it was told of."""
    cls = layer_or_class if isinstance(layer_or_class, type) else type(layer_or_class)
    those = cls.__mro__ if layer_or_class is cls else (*cls.__mro__, layer_or_class)
    return [(each, told) for each in those for told in _TOLD.get(each, ())]


def _resolve(told: _Told, layer: Any) -> Pair | None:
    """Find the axes of what was told in a built layer; ``None`` if it has no bias."""
    variables = dict(held_variables(layer))
    shapes: dict[str, tuple[int, ...]] = {}
    for attribute in told.attributes:
        value: Any = getattr(layer, attribute, None)
        if attribute in told.biases and value is None and hasattr(layer, attribute):
            return None
        if not keras.is_variable(value):
            named = [each for each in variables if each.isidentifier()]
            hint = did_you_mean(closest(attribute, named)) or f" It has {', '.join(named) or 'none'} under names."
            raise PairError(f"{_name(layer)} has no weight {attribute!r}.{hint}")
        shapes[attribute] = tuple(value.shape)
    units = told.units or _common_last_axes(list(shapes.values()))
    shown = " and ".join(f"{attribute} {tables.shape(shape)}" for attribute, shape in shapes.items())
    if not units or any(-axis > len(shapes[kernel]) for axis in units for kernel in told.kernels):
        which = "units=" + repr(told.units) if told.units else "the last axes, and no units= says which"
        raise PairError(f"{_name(layer)}: {shown} cannot be stacked by {which}: the kernel's units must be the bias's.")
    wanted = [shapes[told.kernels[0]][axis] for axis in units]
    return Pair(
        tuple(Weight(kernel, units) for kernel in told.kernels),
        tuple(Weight(bias, _axes_of_bias(shapes[bias], wanted)) for bias in told.biases),
    )


def _common_last_axes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Find the most last axes in which all shapes are the same."""
    for count in range(min(map(len, shapes)), 0, -1):
        if len({shape[-count:] for shape in shapes}) == 1:
            return tuple(range(-count, 0))
    return None


def _axes_of_bias(shape: tuple[int, ...], wanted: Sequence[int]) -> tuple[int, ...]:
    """Find the axes of a bias that are the units of a kernel: as many of the last as have its sizes, or else one."""
    return tuple(range(-len(wanted), 0)) if shape[-len(wanted) :] == tuple(wanted) else (-1,)


def _names(given: Any, option: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise PairError(
            f"{option}= takes the name of the attribute that holds the weight, as 'w', or a list of such names; "
            f"got an object of type {type(given).__name__}."
        )
    return tuple(names)


def _axes(given: Any) -> tuple[int, ...]:
    axes = (given,) if isinstance(given, int) else given
    if not isinstance(axes, list | tuple) or not axes or not all(isinstance(axis, int) and axis < 0 for axis in axes):
        raise PairError(f"units={given!r}: give one axis or a list of them, counted from the end, as -1.")
    if len(set(axes)) < len(axes):
        raise PairError(f"units={given!r}: an axis is there twice.")
    return tuple(axes)


def _called(layer_or_class: Any) -> str:
    cls = isinstance(layer_or_class, type)
    return layer_or_class.__name__ if cls else f"layer {getattr(layer_or_class, 'name', layer_or_class)!r}"


def _name(layer: Any) -> str:
    return f"{type(layer).__name__} {layer.name!r}"
