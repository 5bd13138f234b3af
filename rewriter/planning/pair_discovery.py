"""Kernel and bias pairs found in what a model computes, for layers of no known family.

The model is traced. Its graph shows products with a variable, and the variables that are added to them. Two variables
of one layer that meet so are a pair. What fits no pair is remarked on, with its place in the model.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rewriter.core import hints, progress
from rewriter.core.errors import ModelError, first_line
from rewriter.core.layout import layout_of

from ..adapters import keras, required
from ..adapters.records import Bias, Factor, NewVariableError
from ..model.example_inputs import specs_of
from ..model.pairs import Pair, Weight
from ..model.preserved_state import preserved
from ..model.variable_holders import held_variables
from ..model.walk import locate_layers
from .reasons import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rewriter.core.messages import Message

    from ..adapters.records import Dataflow


_Use = Factor | Bias


@dataclass(frozen=True)
class Remark:
    """Something in a model's graph that an optimizer of whole layers would not expect.

    Attributes:
        place: The weight, by the path of its layer and the attribute, ``"encoder/mix.w"``.
        finding: What is the matter with it; ``text`` says it in words.
        layer: The layer that holds the weight.
        attribute: Under which attribute.
    """

    place: str
    finding: Message
    layer: Any = field(repr=False, compare=False)
    attribute: str = field(repr=False)

    @property
    def text(self) -> str:
        """What is the matter with the weight, in words."""
        return str(self.finding)

    def to_dict(self) -> dict[str, str]:
        """Return ``place`` and ``text`` as JSON data."""
        return {"place": self.place, "text": self.text}

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True)
class Discovery:
    """What was found in a model.

    Attributes:
        pairs: The pairs of each layer that has some, by ``id`` of the layer.
        remarks: What does not fit, in the order of the model's weights.
    """

    pairs: Mapping[int, tuple[Pair, ...]]
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class _Place:
    """Where a variable is held: the layer, the attribute, and the name for messages."""

    variable: Any
    layer: Any
    attribute: str
    name: str

    def unfit(self, model: Any) -> str | None:
        """Return why the variable cannot be in a pair, ``None`` if it can."""
        if self.layer is model:
            return "the model itself holds it, not a layer in it"
        return None if self.attribute.isidentifier() else "it is in a container, not under a name of its own"


def discover(model: Any, inputs: Any = None) -> Discovery:
    """Find which weights of a model belong together, by what it computes; nothing is run or changed.

    Args:
        model: A built Keras model.
        inputs: A batch it takes; ``None`` goes by what the model says of its inputs.

    Raises:
        ModelError: The model cannot be traced.
    """
    places = _places(model)
    with progress.stage("looking at what the model computes"):
        found = _trace(model, inputs, [place.variable for place in places])
    ways = [_ways(found, number, places) for number in range(len(places))]
    # A variable with a second use may not be a view of W*: the other use would need the variable itself.
    fit = {number for number, place in enumerate(places) if place.unfit(model) is None and len(ways[number]) == 1}
    links = _links(found, places)
    groups = _groups(links, fit)
    pairs: dict[int, list[Pair]] = defaultdict(list)
    for group in groups:
        pairs[id(places[group[0].variable].layer)].append(_pair(group, places))
    paired = {each.variable for group in groups for each in group}
    # Only what is trained matters to an optimizer. A product without a bias is remarked on all the same.
    trained = {id(variable) for variable in model.trainable_weights}
    remarks = [
        Remark(place.name, finding, place.layer, place.attribute)
        for number, place in enumerate(places)
        if layout_of(place.variable) is None and number not in paired
        for finding in _findings(
            ways[number],
            place.unfit(model),
            sorted({places[bias.variable].name for each, bias in links if each.variable == number}),
            id(place.variable) in trained,
        )
    ]
    return Discovery({layer: tuple(several) for layer, several in pairs.items()}, tuple(remarks))


def _places(model: Any) -> list[_Place]:
    """List the weights of a model, each once, with the place where it is held first."""
    places: dict[int, _Place] = {}
    for path, layer in [("", model), *((found.paths[0], found.layer) for found in locate_layers(model))]:
        own = {id(weight) for weight in keras.own_weights(layer)}
        for attribute, variable in held_variables(layer):
            if id(variable) in own:
                public = _public_name(layer, attribute)
                name = f"{path}.{public}" if path else public
                places.setdefault(id(variable), _Place(variable, layer, public, name))
    return list(places.values())


def _public_name(layer: Any, attribute: str) -> str:
    """Return the name by which a layer's attribute is asked for, where it is stored under another."""
    public = attribute.removeprefix("_")
    return public if public.isidentifier() and keras.stored_attribute(layer, public) == attribute else attribute


def _trace(model: Any, inputs: Any, variables: Sequence[Any]) -> Dataflow:
    tracing = required(keras.tracing, "discover=True", "declare the pairs with rewriter.pair")
    specs, guessed = specs_of(model)
    if inputs is not None:
        try:
            specs = tracing.specs_like(inputs)
        except AttributeError as error:
            raise ModelError(
                f"{hints.INPUTS} takes a batch as the model does: arrays, not lists of numbers."
            ) from error
    if specs is None:
        raise ModelError(
            f"{model.name} does not say what it takes, so it cannot be traced; pass {hints.INPUTS}, a batch."
        )
    # In training mode first: only then dropout and a user's code for training are part of the graph.
    given = [specs, keras.further_specs(model)]

    def trace(training: bool) -> Dataflow:
        def call(batch: Any, further: Any) -> Any:
            return model(batch, **further, **keras.training_argument(model, training))

        with preserved(model, *keras.layers_below(model)):
            return tracing.dataflow(call, given, variables)

    try:
        with keras.kept_input_specs(model) if guessed and inputs is None else contextlib.nullcontext():
            with contextlib.suppress(NewVariableError):  # in training it would make weights that do not exist yet
                return trace(True)
            return trace(False)
    except NewVariableError:
        raise ModelError(
            f"{model.name} cannot be traced, it has layers that are not built: call it on a batch first."
        ) from None
    except Exception as error:
        raise ModelError(
            f"{model.name} cannot be traced, it raised {first_line(error)!r}; pass {hints.INPUTS}, a batch that it "
            "takes."
        ) from error


class _Way(NamedTuple):
    """A way in which the graph uses a variable."""

    kind: Literal["product", "sum", "other"]
    text: str


def _ways(found: Dataflow, number: int, places: Sequence[_Place]) -> list[_Way]:
    """List the ways in which the graph uses a variable."""
    products = sorted(factor for factor in found.products if factor.variable == number)
    added = {bias: sums for bias, sums in found.added.items() if bias.variable == number}
    to = {bias: {names for sum_ in sums if (names := _names(sum_, number, places))} for bias, sums in added.items()}
    # One way for each set of outgoing axes: multiplied from two sides, a kernel has two kinds of units.
    ways = [_Way("product", f"multiplied, units along axis {_axes(factor)}") for factor in products]
    if len({bias.outgoing for bias in added}) > 1:
        ways += [_Way("sum", each) for each in sorted({f"added, units along axis {_axes(bias)}" for bias in added})]
    elif any(len(names) > 1 for names in to.values()):
        several = sorted({f"added to products of {each}" for names in to.values() for each in names})
        ways += [_Way("sum", each) for each in several]
    elif any(to.values()) or any(isinstance(each, Bias) and each.variable == number for each, _ in found.joined):
        ways.append(_Way("sum", "added to a product"))
    elif added:
        ways.append(_Way("sum", "added to a product of another layer"))
    return ways + [_Way("other", each) for each in sorted(found.otherwise.get(number, ()))]


def _names(factors: Iterable[Factor], number: int, places: Sequence[_Place]) -> str:
    """Name the factors that belong to the layer of a variable."""
    return " and ".join(places[factor.variable].name for factor in sorted(factors) if _together(factor, number, places))


def _together(one: _Use, number: int, places: Sequence[_Place]) -> bool:
    return places[one.variable].layer is places[number].layer


def _links(found: Dataflow, places: Sequence[_Place]) -> list[tuple[_Use, _Use]]:
    """List which uses of variables flow into the same units, of variables of one layer."""
    biases = {bias.variable: bias for bias in found.added}
    links: list[tuple[_Use, _Use]] = [
        (factor, bias) for bias, sums in found.added.items() for factors in sums for factor in factors
    ]
    links += [(each, biases[number]) for each, number in found.joined if number in biases]
    return [(each, bias) for each, bias in links if _together(each, bias.variable, places)]


def _groups(links: Iterable[tuple[_Use, _Use]], fit: set[int]) -> list[list[_Use]]:
    """Group the uses that are linked, among fit variables; each group is in the order of the variables."""
    # Links are joined transitively: an LSTM's kernel, recurrent kernel and bias are one group of two links.
    group_of: dict[int, dict[int, _Use]] = {}
    for link in links:
        if all(each.variable in fit for each in link):
            group: dict[int, _Use] = {}
            for each in link:
                group |= group_of.get(each.variable, {each.variable: each})
            group_of |= dict.fromkeys(group, group)
    groups = {id(group): [group[number] for number in sorted(group)] for group in group_of.values()}
    whole = [group for group in groups.values() if any(isinstance(each, Factor) for each in group)]
    return sorted(whole, key=lambda group: group[0].variable)


def _pair(group: Sequence[_Use], places: Sequence[_Place]) -> Pair:
    """Make a pair of a group, with the units in the order of its first kernel, which is the largest to read."""
    kernel = next(each for each in group if isinstance(each, Factor))
    # Axes are listed in the order in which the product leaves them; the same permutation holds for each weight that
    # has as many.
    order = sorted(range(len(kernel.outgoing)), key=kernel.outgoing.__getitem__)
    alike = all(len(each.outgoing) == len(order) for each in group)

    def weights(kind: type) -> tuple[Weight, ...]:
        return tuple(
            Weight(
                places[each.variable].attribute, tuple(each.outgoing[at] for at in order) if alike else each.outgoing
            )
            for each in group
            if isinstance(each, kind)
        )

    return Pair(weights(Factor), weights(Bias))


def _findings(ways: Sequence[_Way], unfit: str | None, partners: Sequence[str], trained: bool) -> list[Message]:
    """Return the findings about a weight that is in no pair."""
    multiplied = any(way.kind == "product" for way in ways)
    if len(ways) > 1 and any(way.kind != "other" for way in ways):
        return [Finding.SEVERAL_USES(uses="; ".join(way.text for way in ways))]
    if not ways:
        how = "not used"
    elif multiplied and partners:
        how = f"a product, and {' and '.join(partners)}, added to it, can be in no pair"
    elif multiplied:
        how = "a product without an addition of a weight of the same layer"
    else:
        how = ", ".join(way.text if " " in way.text else f"used by {way.text}" for way in ways)
    if trained:
        return [Finding.IN_NO_PAIR(how=unfit or how)]
    return [Finding.LONELY_PRODUCT(how=how)] if multiplied else []


def _axes(use: _Use) -> str:
    return " and ".join(map(str, use.outgoing))
