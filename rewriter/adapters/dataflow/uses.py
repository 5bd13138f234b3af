"""How a computation uses variables: which are multiplied, and which are added to the product.

This is an abstract interpretation. Each tensor is replaced by a value that says only what matters here: a variable
(whole, or a piece of it, in any shape), or a sum into which products of variables flow. What the operations of one
framework are, and in which order they come, is said by the modules beside this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..records import Bias, Dataflow, Factor
from . import dimensions
from .dimensions import Dimension

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .dimensions import Dimensions, Left


class Read(NamedTuple):
    """A variable, or a piece of it, read in some shape.

    Attributes:
        variable: Which.
        dimensions: Those of the tensor; ``None`` where it is not known how they come from the variable's axes.
        piece: How it was cut out of the variable, to tell pieces from each other.
    """

    variable: int
    dimensions: Dimensions | None
    piece: tuple[Any, ...] = ()


class Sum(NamedTuple):
    """What products of variables flow into.

    Attributes:
        waiting: Factors of products to which no variable was added yet.
        biases: Variables that were added to products.
        units: How many units there are, along each outgoing axis of the factors.
        dimensions: Those of the tensor; their axes are the places in ``units``.
    """

    waiting: frozenset[Factor]
    biases: frozenset[int]
    units: tuple[int, ...]
    dimensions: Dimensions

    @property
    def places(self) -> dict[int, Dimension]:
        """Where the units are: the dimensions that have some, by their places counted from the end."""
        rank = len(self.dimensions)
        return {index - rank: each for index, each in enumerate(self.dimensions) if each.axes}


# A tensor is one of these. None is anything else: whatever is uncertain becomes None, so that a pair may be missed but
# is never made up.
Value = Read | Sum | None


# Given the place of a factor and its rank, what a product leaves of it.
Rule = Callable[[int, int], "Left | None"]


class Uses:
    """How variables are used, collected while the operations of a computation are gone through.

    Attributes:
        found: What was found so far.
        shapes: The shape of each variable.
    """

    def __init__(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        self.found = Dataflow()
        self.shapes = shapes

    def read(self, variable: int) -> Read:
        """Return the value of a variable that is read as it is."""
        return Read(variable, dimensions.of_variable(self.shapes[variable]))

    def used(self, operation: str, values: Iterable[Any]) -> None:
        """Note that an operation uses variables otherwise than in products and sums."""
        for value in values:
            if hasattr(value, "variable"):
                self.found.otherwise[value.variable].add(operation)

    def product(self, operation: str, arguments: Sequence[Any], left: Rule, shape: Sequence[int] | None) -> Sum | None:
        """Return the value of a product, ``None`` where it is none of one variable and something else.

        Args:
            operation: What multiplies.
            arguments: The values of the factors.
            left: Given the place of a factor and its rank, tells what the product leaves of it.
            shape: The shape of the product, with ``UNKNOWN`` for what is not known; ``None`` for an unknown rank.
        """
        # A product of two variables has no units that one bias could belong to.
        factors = [(place, value) for place, value in enumerate(arguments) if isinstance(value, Read)]
        if len(factors) == 1:
            place, read = factors[0]
            of_it = left(place, len(read.dimensions)) if read.dimensions is not None else None
            product = self._one_factor(read, of_it, shape)
            if product is not None:
                self.found.products |= product.waiting
                return product
        self.used(operation, [read for _, read in factors])
        return None

    def _one_factor(self, read: Read, left: Left | None, result: Sequence[int] | None) -> Sum | None:
        """Return the product of a variable and something else, ``None`` where it leaves no whole set of axes."""
        if not left or read.dimensions is None or result is None:
            return None
        sizes = self.shapes[read.variable]
        kept = {index for index, _ in left}
        summed = [each for index, each in enumerate(read.dimensions) if index not in kept]
        outgoing = dimensions.axes_from_end([read.dimensions[index] for index, _ in left], len(sizes))
        # An axis that an index took away, as of kernels that are stacked: each has units of its own.
        there = {axis for each in read.dimensions for axis in each.axes}
        if any(size > 1 for axis, size in enumerate(sizes) if axis not in there):
            return None
        # An axis that is summed in part, and left in part, is neither incoming nor outgoing.
        if not outgoing or set(outgoing) & set(dimensions.axes_from_end(summed, len(sizes))):
            return None
        units: list[int] = []
        placed = [Dimension(size, ()) for size in result]
        for index, at in left:
            part, before = read.dimensions[index], placed[at]
            if not part.axes:
                continue  # a dimension of size one, which the product spreads
            if before.axes and (part.start or before.start):
                return None  # two axes in one dimension, cut: the units are no product of whole axes
            new = dimensions.sizes_along(part, sizes)
            size = before.size * part.size if before.axes else part.size
            placed[at] = Dimension(size, (*before.axes, *range(len(units), len(units) + len(new))), part.start)
            units += new
        factor = Factor(read.variable, outgoing)
        return Sum(frozenset({factor}), frozenset(), tuple(units), tuple(placed))

    def sum(self, operation: str, values: Sequence[Any], channels: int | None = None) -> Sum | None:
        """Return the value of a sum, ``None`` where no product flows into it.

        Args:
            operation: What adds.
            values: Those that are added; one of fewer dimensions along the last ones of the others.
            channels: The dimension along which the last one is added, if it is not the last.
        """
        sums = [value for value in values if isinstance(value, Sum)]
        reads = [value for value in values if isinstance(value, Read)]
        # Sums whose units are in other places are added by broadcasting: no number belongs to one unit then.
        if not sums or any((each.units, each.places) != (sums[0].units, sums[0].places) for each in sums):
            self.used(operation, reads)
            return None
        waiting = frozenset[Factor]().union(*(each.waiting for each in sums))
        biases = frozenset[int]().union(*(each.biases for each in sums))
        longest = max(sums, key=lambda each: len(each.dimensions))
        for read in reads:
            outgoing = self._units_of(read, longest, channels)
            if outgoing is None or (not waiting and len(biases) != 1):
                self.used(operation, [read])
                continue
            bias = Bias(read.variable, outgoing, read.piece)
            if waiting:
                # The first variable that is added is the bias of every product that waits for one.
                self.found.added[bias].add(waiting)
                waiting, biases = frozenset(), biases | {read.variable}
            else:
                self.found.joined |= {(bias, other) for other in biases}
        if len(biases) == 1:
            self.found.joined |= {(factor, bias) for factor in waiting for bias in biases}
            waiting = frozenset()
        return longest._replace(waiting=waiting, biases=biases)

    def _units_of(self, read: Read, to: Sum, channels: int | None) -> tuple[int, ...] | None:
        """List the axes of a variable along the units of a sum, ``None`` where it is not one number for each unit."""
        if read.dimensions is None:
            return None
        sizes = self.shapes[read.variable]
        at = -len(read.dimensions) if channels is None else channels
        given = {at + index: each for index, each in enumerate(read.dimensions)}
        places = to.places
        if any(each.size > 1 for place, each in given.items() if place not in places):
            return None
        axes: dict[int, list[int]] = {}
        for place, wanted in places.items():
            there = given.get(place)
            if there is None or (there.size, there.start) != (wanted.size, wanted.start):
                return None
            if math.prod(sizes[axis] for axis in there.axes) != math.prod(to.units[unit] for unit in wanted.axes):
                return None
            axes[wanted.axes[0]] = [axis - len(sizes) for axis in there.axes]
        return tuple(axis for unit in sorted(axes) for axis in axes[unit])


# Each round of a loop turns at least one of its values into None, so few rounds are needed; this bounds odd ones.
_ROUNDS = 8


def until_the_same(step: Callable[[list[Any]], Sequence[Any]], values: list[Any]) -> list[Any]:
    """Go through the body of a loop until its values no longer change; return them.

    What the body returns is its argument in the next round. A value that differs becomes ``None``, and the body is
    entered again with that, as it may now use a variable in another way.
    """
    for _ in range(_ROUNDS):
        same = [old if old == new else None for old, new in zip(values, step(values), strict=True)]
        if same == values:
            break
        values = same
    return values


def either(values: Sequence[Value]) -> Value:
    """Return the value of a condition: where its branches give like sums, one with the factors of all."""
    waiting = frozenset[Factor]().union(*(value.waiting for value in values if isinstance(value, Sum)))
    alike = {value._replace(waiting=waiting) if isinstance(value, Sum) else value for value in values}
    return alike.pop() if len(alike) == 1 else None


def whole(value: Sum, moved: Dimensions | None) -> Sum | None:
    """Give a sum other dimensions; ``None`` where not all of its units are along them."""
    if moved is None or sorted(axis for each in moved for axis in each.axes) != list(range(len(value.units))):
        return None
    return value._replace(dimensions=moved)
