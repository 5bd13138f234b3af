"""Which operations of TensorFlow move dimensions, cut and multiply, and what is left of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .dimensions import (
    cut,
    expanded,
    left_by_einsum,
    left_by_matmul,
    reshaped,
    resized,
    squeezed,
    strided,
    transposed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .dimensions import Dimensions, Left, Numbers


def masks_of(node: Any) -> tuple[tuple[str, int], ...]:
    """Read the masks of a ``StridedSlice`` by name, without ``_mask``; any other operation has none."""
    names = ("begin", "end", "ellipsis", "new_axis", "shrink_axis") if node.op == "StridedSlice" else ()
    return tuple((name, node.attr[f"{name}_mask"].i) for name in names)


def _split(dimensions: Dimensions, place: int, count: int, index: int) -> Dimensions:
    size = dimensions[place].size // count
    return resized(dimensions, place, index * size, size)


def _matmul(turned: str) -> Callable[[Any, int, int], Left | None]:
    """Make the rule for a matrix product whose factors can be transposed; ``turned`` names the two attributes."""

    def left(node: Any, place: int, rank: int) -> Left | None:
        return left_by_matmul(rank, place, node.attr[turned.split()[place]].b)

    return left


def _convolution(*dimensions: int) -> Callable[[Any, int, int], Left | None]:
    """Make the rule for a convolution by its filter, of which some dimensions are left, all of them as channels."""

    def left(node: Any, place: int, rank: int) -> Left | None:
        channels = -1 if node.attr["data_format"].s.endswith(b"C") else 1 - rank
        return [(rank + dimension, channels) for dimension in dimensions] if place == 1 else None

    return left


# For each product, what is left of a factor at some place and of some rank.
PRODUCTS: dict[str, Callable[[Any, int, int], Left | None]] = {
    "MatMul": _matmul("transpose_a transpose_b"),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _matmul("adj_x adj_y")),
    "Einsum": lambda node, place, _: left_by_einsum(node.attr["equation"].s.decode(), place),
    "Conv2D": _convolution(-1),
    "Conv3D": _convolution(-1),
    "DepthwiseConv2dNative": _convolution(-2, -1),
    "Conv2DBackpropInput": _convolution(-2),
    "Conv3DBackpropInputV2": _convolution(-2),
}

CUTS = frozenset(["Split", "SplitV", "Unpack", "StridedSlice", "Slice"])
# For each operation that moves dimensions or cuts, what becomes of them: of the node, the dimensions, the numbers of
# its other arguments, the sizes of the variable's axes, and which of its outputs.
MOVES: dict[str, Callable[[Any, Any, list[Numbers], Sequence[int], int], Dimensions | None]] = {
    "Reshape": lambda _, before, numbers, sizes, __: reshaped(before, numbers[0], sizes),
    "Transpose": lambda _, before, numbers, *__: transposed(before, numbers[0]),
    "ExpandDims": lambda _, before, numbers, *__: expanded(before, numbers[0][0]),
    "Squeeze": lambda node, before, *_: squeezed(before, tuple(node.attr["squeeze_dims"].list.i)),
    "Split": lambda node, before, numbers, _, index: _split(before, numbers[0][0], node.attr["num_split"].i, index),
    "SplitV": lambda _, before, numbers, __, index: resized(
        before, numbers[1][0], sum(numbers[0][:index]), numbers[0][index]
    ),
    "Unpack": lambda node, before, *_: squeezed(before, (node.attr["axis"].i,)),
    "Slice": lambda _, before, numbers, *__: tuple(
        cut(each, first, size if size >= 0 else each.size - first)
        for each, first, size in zip(before, *numbers, strict=True)
    ),
    "StridedSlice": lambda node, before, numbers, *_: strided(
        before, numbers[0], numbers[1], numbers[2], dict(masks_of(node))
    ),
}
