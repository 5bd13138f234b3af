"""Plain data in which a Keras is asked and answers, the same for every adapter."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class NewVariableError(Exception):
    """A function would make a variable while it is only traced."""


class NewWeight(NamedTuple):
    """A weight that a layer gets.

    Attributes:
        attribute: The layer's attribute that is to hold it.
        variable: The variable.
        position: Its place among the layer's own weights.
    """

    attribute: str
    variable: Any
    position: int


@dataclass(frozen=True)
class Slots:
    """The slots of an optimizer.

    Attributes:
        index: The place of each variable's slot in every list, by its key.
        lists: The lists of slots, by the optimizer's name for them, each in the order of ``index``.
        variables: All variables of the optimizer, in the order in which they are saved.
    """

    index: dict[Any, int]
    lists: dict[str, list[Any]]
    variables: list[Any]


class DecayExclusions(NamedTuple):
    """What weight decay leaves out: variables, by their keys, and patterns of variable names."""

    keys: list[Any]
    patterns: list[str]


class Replaced(NamedTuple):
    """What is remembered of a variable that is replaced, without keeping it: it may take as much memory as the model.

    Attributes:
        key: The key by which optimizers know it.
        handles: The ``id`` of the resources by which graphs read it. A graph that does keeps them alive.
    """

    key: Any
    handles: frozenset[int]


class Factor(NamedTuple):
    """A variable in a product, and its axes that are left by the product, counted from the end: the outgoing ones."""

    variable: int
    outgoing: tuple[int, ...]


class Bias(NamedTuple):
    """A variable that is added to a product, its axes along which the units are, and which piece of it is added."""

    variable: int
    outgoing: tuple[int, ...]
    piece: tuple[Any, ...]


@dataclass
class Dataflow:
    """What a graph does with its variables, which go by numbers.

    Attributes:
        products: The factors there are.
        added: For each bias, the factors it is added to, once for each different sum.
        joined: What flows into a sum that has one bias already, a factor or another bias, and that bias.
        otherwise: The operations that use a variable in any other way.
    """

    products: set[Factor] = field(default_factory=set)
    added: dict[Bias, set[frozenset[Factor]]] = field(default_factory=lambda: defaultdict(set))
    joined: set[tuple[Factor | Bias, int]] = field(default_factory=set)
    otherwise: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
