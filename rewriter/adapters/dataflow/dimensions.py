"""Which axes of a variable run along the dimensions of a tensor that is read from it, through every move and cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Dimension(NamedTuple):
    """One dimension of a tensor: its size, the axes of the variable along it, the slowest first, and where it begins.

    It begins after 0 where a piece was cut out of the axes.
    """

    size: int
    axes: tuple[int, ...]
    start: int = 0


Dimensions = tuple[Dimension, ...]
UNKNOWN = 1 << 40  # the size of a dimension that is not known when the graph is made
_TURNED = 1 << 41  # where a dimension begins that is read from its end
# The whole numbers that an operation was given as a constant: a shape, a permutation, an axis.
Numbers = tuple[int, ...]


def of_variable(shape: Sequence[int]) -> Dimensions:
    """Name the dimensions of a variable as it is."""
    return tuple(Dimension(size, (axis,)) for axis, size in enumerate(shape))


def axes_from_end(dimensions: Sequence[Dimension], rank: int) -> tuple[int, ...]:
    """List the axes of a variable of some rank that run along dimensions, counted from the end."""
    return tuple(axis - rank for dimension in dimensions for axis in dimension.axes)


def reshaped(dimensions: Dimensions, shape: Numbers, sizes: Sequence[int]) -> Dimensions | None:
    """Follow a reshape: dimensions that are flattened together, or apart again along the variable's axes.

    Args:
        dimensions: Those before.
        shape: The new shape, with -1 for a size that follows from the others.
        sizes: The sizes of the variable's own axes.

    Returns:
        The dimensions after; ``None`` where the new ones cut across the axes.
    """
    total = math.prod(dimension.size for dimension in dimensions)
    known = math.prod(size for size in shape if size >= 0)
    wanted = [size if size >= 0 else total // max(known, 1) for size in shape]
    waiting = [atom for dimension in dimensions for atom in _atoms(dimension, sizes)]
    result = []
    for size in wanted:
        taken: list[Dimension] = []
        while math.prod(atom.size for atom in taken) < size and waiting:
            taken.append(waiting.pop(0))
        joined = _joined(taken, sizes)
        if joined is None or joined.size != size:
            return None
        result.append(joined)
    return tuple(result) if all(atom.size == 1 for atom in waiting) else None


def reshaped_at_the_end(dimensions: Dimensions, shape: Sequence[int], sizes: Sequence[int]) -> Dimensions | None:
    """Follow a reshape of a tensor of which only the last sizes are known, as far as there are axes to follow.

    Args:
        dimensions: Those before.
        shape: The new shape, with ``UNKNOWN`` for what is not known.
        sizes: The sizes of the axes.
    """
    before, after = list(dimensions), list(shape)
    result: list[Dimension] = []
    while any(each.axes for each in before):
        if not after:
            return None
        size = after.pop()
        taken: list[Dimension] = []
        while before and math.prod(each.size for each in taken) < size:
            last = before.pop()
            if last.size > size and len(last.axes) > 1:
                before += _atoms(last, sizes)  # what was flattened is taken apart again
                last = before.pop()
            taken.insert(0, last)
        joined = _joined(taken, sizes)
        if joined is None or joined.size != size or size == UNKNOWN:
            return None
        result.insert(0, joined)
    return (*(Dimension(size, ()) for size in after), *result)


def _joined(dimensions: Sequence[Dimension], sizes: Sequence[int]) -> Dimension | None:
    """Flatten dimensions to one; ``None`` where a piece would be flattened together with something else."""
    long = [each for each in dimensions if each.size > 1]
    if len(long) == 1:
        return long[0]
    if any(each.start or math.prod(sizes[axis] for axis in each.axes) != each.size for each in long):
        return None
    return Dimension(
        math.prod(each.size for each in dimensions), tuple(axis for each in dimensions for axis in each.axes)
    )


def _atoms(dimension: Dimension, sizes: Sequence[int]) -> list[Dimension]:
    """Take a dimension apart into the whole axes that run along it, or leave it where a piece was cut out of them."""
    axes = [Dimension(sizes[axis], (axis,)) for axis in dimension.axes if sizes[axis] > 1]
    whole = not dimension.start and math.prod(axis.size for axis in axes) == dimension.size
    return axes if whole and dimension.size > 1 else [dimension]


def sizes_along(dimension: Dimension, sizes: Sequence[int]) -> list[int]:
    """List the sizes of the axes that run along a dimension; of a piece, or where all are one, their product."""
    return [atom.size for atom in _atoms(dimension, sizes) if atom.axes != dimension.axes] or [
        math.prod(sizes[axis] for axis in dimension.axes)
    ]


def turned(dimensions: Dimensions, places: Numbers) -> Dimensions:
    """Follow the reversal of some dimensions: they begin where no other does, so they fit no other."""
    return tuple(
        each._replace(start=_TURNED - each.start) if place in places else each for place, each in enumerate(dimensions)
    )


def transposed(dimensions: Dimensions, order: Numbers) -> Dimensions:
    """Follow a transposition."""
    return tuple(dimensions[axis] for axis in order)


def expanded(dimensions: Dimensions, place: int) -> Dimensions:
    """Follow the insertion of a dimension of size one."""
    at = place if place >= 0 else place + len(dimensions) + 1
    return (*dimensions[:at], Dimension(1, ()), *dimensions[at:])


def spread(dimensions: Dimensions, shape: Sequence[int], places: Sequence[int], is_variable: bool) -> Dimensions | None:
    """Follow a broadcast, to a shape in which the dimensions have some places.

    Along what is new a variable gets size 1, as it is the same all along it. Of a sum nothing may be spread that has
    units: what belongs to one would be spread over others.
    """
    result = [Dimension(1 if is_variable else size, ()) for size in shape]
    for each, place in zip(dimensions, places, strict=True):
        if each.axes and not is_variable and each.size != shape[place]:
            return None
        if each.axes:
            result[place] = each
    return tuple(result)


def squeezed(dimensions: Dimensions, places: Numbers) -> Dimensions:
    """Follow the removal of dimensions of size one; of all of them if no places are given."""
    gone = {place % len(dimensions) for place in places} or {
        place for place, dimension in enumerate(dimensions) if dimension.size == 1
    }
    return tuple(dimension for place, dimension in enumerate(dimensions) if place not in gone)


def resized(dimensions: Dimensions, place: int, start: int, size: int) -> Dimensions:
    """Follow a cut along one dimension, of which ``size`` is left from ``start`` on."""
    at = place % len(dimensions)
    return (*dimensions[:at], cut(dimensions[at], start, size), *dimensions[at + 1 :])


def cut(dimension: Dimension, start: int, size: int) -> Dimension:
    """Follow a cut along a dimension, of which ``size`` is left from ``start`` on."""
    return Dimension(size, dimension.axes, dimension.start + start if dimension.axes else 0)


def strided(
    dimensions: Dimensions, begin: Numbers, end: Numbers, strides: Numbers, masks: Mapping[str, int]
) -> Dimensions | None:
    """Follow Python's indexing, ``tensor[begin:end:stride, index, tf.newaxis, ...]``.

    Args:
        dimensions: Those before.
        begin: The first index for each place of the index expression.
        end: The index after the last.
        strides: The steps; what they skip or turn round is not followed.
        masks: The masks of TensorFlow's ``StridedSlice``, by name without ``_mask``: one bit for each place.
    """

    def is_set(name: str, place: int) -> bool:
        return bool(masks[name] >> place & 1)

    inserted = sum(is_set("new_axis", place) for place in range(len(begin)))
    remaining, result = list(dimensions), []
    for place, (first, last, stride) in enumerate(zip(begin, end, strides, strict=True)):
        if is_set("ellipsis", place):
            named = len(begin) - 1 - inserted
            result += [remaining.pop(0) for _ in range(len(dimensions) - named)]
        elif is_set("new_axis", place):
            result.append(Dimension(1, ()))
        elif not remaining:
            return None
        else:
            dimension = remaining.pop(0)
            if not is_set("shrink_axis", place):
                taken = slice(None if is_set("begin", place) else first, None if is_set("end", place) else last, stride)
                left = range(dimension.size)[taken]
                if not left or left.step != 1:
                    return None
                result.append(cut(dimension, left.start, len(left)))
    return (*result, *remaining)


# What a product leaves of a factor: each dimension, in the order of units, with its place in the result, from the end.
Left = list[tuple[int, int]]


def left_by_matmul(rank: int, place: int, turned: bool) -> Left:
    """Tell what a matrix product leaves: all dimensions but the one that is summed over."""
    last = rank - 1 if (place == 0) == turned else rank - 2
    return [*((batch, batch - rank) for batch in range(rank - 2)), (last, -2 if place == 0 else -1)]


def left_by_einsum(equation: str, place: int) -> Left | None:
    """Tell what an einsum leaves; ``None`` where the equation does not name it."""
    factors, result = equation.replace(" ", "").split("->")
    letters, named = factors.split(",")[place], result.rpartition(".")[2]
    if "." in letters or any(letter in result and letter not in named for letter in letters):
        return None
    return [(letters.index(each), place - len(named)) for place, each in enumerate(named) if each in letters]
