"""Pairs that a user declares: which attributes of a layer of no known family belong together."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core import hints, tables
from rewriter.core.errors import PairError
from rewriter.core.flags import require_flags
from rewriter.core.layout import is_merged
from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import keras
from ..model.families import family_of_class
from ..model.pairs import Pair, Weight
from ..model.variable_holders import held_variables

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class _Declaration:
    """A declared pair. Its axes are known once a layer is built."""

    kernels: tuple[str, ...]
    biases: tuple[str, ...]
    units: tuple[int, ...] | None
    reads_input: bool

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.kernels + self.biases


# A declaration is forgotten with its layer or class.
_DECLARATIONS: weakref.WeakKeyDictionary[Any, tuple[_Declaration, ...]] = weakref.WeakKeyDictionary()


def pair(
    layer_or_class: Any,
    kernel: str | Sequence[str] = "kernel",
    bias: str | Sequence[str] = "bias",
    units: int | Sequence[int] | None = None,
    reads_input: bool = False,
) -> None:
    """Declare which weights of a layer of your own belong together. The pass then treats it like Keras's own layers.

        rewriter.pair(Mixing, kernel="w", bias="b")
        rewriter.pair(model.get_layer("gate"), kernel=("from_input", "from_state"), bias="b")

    Declare each pair of a layer that has several. A new declaration for a weight replaces the one before, of the same
    layer or class. :func:`rewriter.unpair` takes back all declarations. Layers that are rewritten stay rewritten. The
    file of a rewritten model holds its pairs, so reading it needs no declaration.

    Args:
        layer_or_class: A layer, or a class of layers: it and its subclasses.
        kernel: The attribute that holds the kernel, or several attributes whose products are summed.
        bias: The attribute that holds the bias, or several.
        units: The axes of each kernel that are its units, counted from the end: -1 where each column is a unit, as in
            Keras's own layers, -2 where each row of a matrix is. ``None`` takes the last axes, as many as fit the bias.
        reads_input: The kernel, a matrix with a unit in each column, is multiplied by the first argument of the layer's
            call, as in a Dense layer. A centered optimizer then knows the mean of what it reads; else it leaves the
            layer uncentered. Only the number of features is checked; if it is not so, training suffers.

    Raises:
        PairError: It is no layer of Keras, or one of a known family. Or a weight is named twice, or belongs to a
            pair that is declared for a class of the layer. Or a built layer has no such weights, or they cannot be
            stacked; for a class, :func:`rewriter.plan` raises these two.
    """
    require_flags(reads_input=reads_input)
    declaration = _Declaration(
        _names(kernel, "kernel"), _names(bias, "bias"), None if units is None else _axes(units), reads_input
    )
    cls = layer_or_class if isinstance(layer_or_class, type) else type(layer_or_class)
    if not issubclass(cls, keras.Layer):
        raise PairError(f"rewriter.pair takes a layer or a class of layers, got {layer_or_class!r}.")
    if not declaration.kernels or not declaration.biases:
        raise PairError(f"{cls.__name__}: a pair has a kernel and a bias at least; got {kernel!r} and {bias!r}.")
    family = family_of_class(cls)
    if family is not None:
        raise PairError(
            f"{cls.__name__} is a layer of a known family and needs no declaration: "
            f"{hints.Argument('layers', family.name)} merges it."
        )
    if not isinstance(layer_or_class, type) and is_merged(layer_or_class):
        raise PairError(f"layer {layer_or_class.name!r} is rewritten already; rewriter.split(model) first.")
    twice = next((each for each in declaration.attributes if declaration.attributes.count(each) > 1), None)
    if twice is not None:
        raise PairError(f"{cls.__name__}: {twice} is named twice in one pair; name each weight once.")
    before = _DECLARATIONS.get(layer_or_class, ())
    for base, other in _declarations_for(layer_or_class):
        common = sorted({*other.attributes} & {*declaration.attributes})
        if common and base is not layer_or_class and other != declaration:
            raise PairError(
                f"{cls.__name__}: {common[0]} is in a pair that is declared for {_called(base)}, and can be merged "
                f"once. rewriter.unpair({_called(base)}) takes that declaration back."
            )
    if layer_or_class is not cls and layer_or_class.built:
        _resolve(declaration, layer_or_class)
    _DECLARATIONS[layer_or_class] = (
        *(other for other in before if not {*other.attributes} & {*declaration.attributes}),
        declaration,
    )


def unpair(layer_or_class: Any) -> None:
    """Take back all pairs that :func:`rewriter.pair` declared for a layer or class. Rewritten layers stay rewritten.

    Args:
        layer_or_class: The layer or class. Declarations for its parent classes, or for single layers of it, stay.

    Raises:
        PairError: No pair is declared for it.
    """
    if not any(each is layer_or_class for each in list(_DECLARATIONS)):
        names = ", ".join(sorted(map(_called, list(_DECLARATIONS)))) or "nothing"
        raise PairError(f"no pair is declared for {_called(layer_or_class)}; pairs are declared for {names}.")
    del _DECLARATIONS[layer_or_class]


def declared_pairs_of(layer: Any) -> tuple[Pair, ...]:
    """Return the pairs that are declared for a built layer or its classes.

    Returns:
        The pairs whose biases the layer has.

    Raises:
        PairError: The layer has no such weights, or they cannot be stacked.
    """
    said = dict.fromkeys(declaration for _, declaration in _declarations_for(layer))
    attributes = [attribute for declaration in said for attribute in declaration.attributes]
    twice = next((each for each in attributes if attributes.count(each) > 1), None)
    if twice is not None:
        raise PairError(
            f"{_name(layer)}: {twice} is in two pairs, declared for it and its class; rewriter.unpair takes one back."
        )
    pairs = (_resolve(declaration, layer) for declaration in said)
    return tuple(pair for pair in pairs if pair is not None)


def has_declared_pairs(layer: Any) -> bool:
    """Tell whether a pair is declared for a layer or for one of its classes."""
    return bool(_declarations_for(layer))


def _declarations_for(layer_or_class: Any) -> list[tuple[Any, _Declaration]]:
    """List the declarations for a layer or class and for the classes above it, each after what it is for."""
    cls = layer_or_class if isinstance(layer_or_class, type) else type(layer_or_class)
    those = cls.__mro__ if layer_or_class is cls else (*cls.__mro__, layer_or_class)
    return [(each, declaration) for each in those for declaration in _DECLARATIONS.get(each, ())]


def _resolve(declaration: _Declaration, layer: Any) -> Pair | None:
    """Find the axes of a declared pair in a built layer; ``None`` if the layer has no bias."""
    variables = dict(held_variables(layer))
    shapes: dict[str, tuple[int, ...]] = {}
    for attribute in declaration.attributes:
        value: Any = getattr(layer, attribute, None)
        if attribute in declaration.biases and value is None and hasattr(layer, attribute):
            return None
        if not keras.is_variable(value):
            named = [each for each in variables if each.isidentifier()]
            hint = did_you_mean(closest(attribute, named)) or f" It has {', '.join(named) or 'none'}."
            say = f"Say which they are: rewriter.pair({type(layer).__name__}, kernel=..., bias=...)."
            raise PairError(f"{_name(layer)} has no weight {attribute!r}.{hint} {say}")
        shapes[attribute] = tuple(value.shape)
    units = declaration.units or _common_last_axes(list(shapes.values()))
    shown = " and ".join(f"{attribute} {tables.shape(shape)}" for attribute, shape in shapes.items())
    if not units or any(-axis > len(shapes[kernel]) for axis in units for kernel in declaration.kernels):
        which = "units=" + repr(declaration.units) if declaration.units else "the last axes, and no units= says which"
        raise PairError(f"{_name(layer)}: {shown} cannot be stacked by {which}: the kernel's units must be the bias's.")
    wanted = [shapes[declaration.kernels[0]][axis] for axis in units]
    is_matrix = len(shapes[declaration.kernels[0]]) == 2 and units == (-1,)  # noqa: PLR2004
    if declaration.reads_input and not (is_matrix and len(declaration.kernels) == 1):
        raise PairError(
            f"{_name(layer)}: reads_input=True is for one kernel that is a matrix with a unit in each column; got "
            f"{shown}."
        )
    return Pair(
        tuple(Weight(kernel, units) for kernel in declaration.kernels),
        tuple(Weight(bias, _axes_of_bias(shapes[bias], wanted)) for bias in declaration.biases),
        declaration.reads_input,
    )


def _common_last_axes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Find the longest run of last axes in which all shapes agree."""
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
        raise PairError(f"units={given!r}: an axis is given twice.")
    return tuple(axes)


def _called(layer_or_class: Any) -> str:
    cls = isinstance(layer_or_class, type)
    return layer_or_class.__name__ if cls else f"layer {getattr(layer_or_class, 'name', layer_or_class)!r}"


def _name(layer: Any) -> str:
    return f"{type(layer).__name__} {layer.name!r}"
