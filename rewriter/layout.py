"""The layout of an augmented kernel: which weights are stacked in it, in which rows.

``W* = [W; b]``. Axis 0 is the incoming axis: one row for every connection that feeds a unit. Column j is unit j.
The bias is the last row, always.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Sequence

AUGMENTED_KERNEL = "augmented_kernel"

_MARK = "_augmented_layout"


@dataclass(frozen=True)
class Part:
    """One weight inside an augmented kernel.

    Attributes:
        attribute: The layer's attribute that holds the weight, ``"kernel"`` or ``"bias"``.
        name: The variable's name without its output index, ``"dense/kernel"``.
        shape: The weight's own shape; its last axis is the layer's units.
        position: The weight's place among the layer's own weights, so that splitting restores their order.
    """

    attribute: str
    name: str
    shape: tuple[int, ...]
    position: int

    @property
    def rows(self) -> int:
        """How many rows of the augmented kernel the weight fills: the product of all axes but the last."""
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class Layout:
    """Which weights are stacked in an augmented kernel, in which order, with which rows and shapes.

    ``unstack(stack(values)) == values``, bit for bit: both only copy.

    Attributes:
        parts: The weights from the top row to the bottom; the bias comes last.
    """

    incoming_axis: ClassVar[int] = 0

    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The augmented kernel's variable name, in the scope of the first weight: ``"dense/augmented_kernel"``."""
        return f"{_scope(self.parts[0].name)}{AUGMENTED_KERNEL}"

    def part_names(self, augmented_name: str) -> tuple[str, ...]:
        """Name the parts of an augmented kernel of some name, which loading a SavedModel may have changed.

        Args:
            augmented_name: The variable's name now, ``"encoder/dense/augmented_kernel:0"``.

        Returns:
            The name of each part, in the scope that the augmented kernel has now.
        """
        then, now = _scope(self.name), _scope(augmented_name)
        return tuple(
            now + part.name.removeprefix(then) if part.name.startswith(then) else part.name for part in self.parts
        )

    @property
    def position(self) -> int:
        """The augmented kernel's place among the layer's own weights: that of the first weight stacked in it."""
        return min(part.position for part in self.parts)

    @property
    def units(self) -> int:
        """Number of units, the columns of the augmented kernel."""
        return self.parts[-1].shape[-1]

    @property
    def bias_rows(self) -> slice:
        """The rows of the augmented kernel that are bias."""
        return slice(self.kernel_rows.stop, self.shape[0])

    @property
    def kernel_rows(self) -> slice:
        """The rows of the augmented kernel that are kernel."""
        return slice(0, sum(part.rows for part in self.parts[:-1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the augmented kernel, ``(incoming rows, units)``; ``(fan_in + 1, units)`` for a Dense layer."""
        return sum(part.rows for part in self.parts), self.units

    def stack(self, values: Sequence[Any]) -> Any:
        """Stack weights into one augmented kernel.

        Args:
            values: One tensor or array for each part, in the part's own shape, all of one dtype.

        Returns:
            A new tensor of shape ``self.shape`` and the dtype of ``values``; it shares no memory with them.
        """
        return tf.concat([tf.reshape(value, (-1, self.units)) for value in values], axis=0)

    def unstack(self, augmented: Any) -> tuple[Any, ...]:
        """Take an augmented kernel apart again, by one split whose gradient is one concatenation.

        Args:
            augmented: Tensor or variable of shape ``self.shape``.

        Returns:
            One new tensor for each part, in the part's own shape and the dtype of ``augmented``.
        """
        blocks = tf.split(augmented, [part.rows for part in self.parts], axis=0)
        return tuple(
            block if len(part.shape) == len(self.shape) else tf.reshape(block, part.shape)
            for part, block in zip(self.parts, blocks, strict=True)
        )

    def views(self, augmented: Any) -> dict[str, Any]:
        """Take an augmented kernel apart as :meth:`unstack` does, by the attribute of each part."""
        return {part.attribute: value for part, value in zip(self.parts, self.unstack(augmented), strict=True)}

    def attach(self, *holders: Any) -> None:
        """Mark variables as augmented kernels of this layout, or layers as having one, to be found by it."""
        for holder in holders:
            # Past Keras's attribute tracking, where the holder is a layer.
            object.__setattr__(holder, _MARK, self)


def _scope(name: str) -> str:
    scope, slash, _ = name.rpartition("/")
    return scope + slash


def layout_of(variable: Any) -> Layout | None:
    """Tell how an augmented kernel is laid out.

    This is how an optimizer learns which rows of the variable in its hands are the bias.

    Args:
        variable: Any ``tf.Variable``: plain, mirrored or autocast, inside a ``tf.function`` or outside.

    Returns:
        The :class:`Layout` of an augmented kernel, ``None`` for any other variable.
    """
    layout: Layout | None = getattr(variable, _MARK, None)
    return layout


def is_merged(layer: Any) -> bool:
    """Tell whether a layer is rewritten and built, so has an augmented kernel."""
    return _MARK in vars(layer)


def layout_in(layer: Any) -> Layout:
    """Read the layout of a rewritten layer's augmented kernel."""
    layout: Layout = vars(layer)[_MARK]
    return layout


def detach(layer: Any) -> None:
    """Take the mark of :meth:`Layout.attach` off a layer that is rewritten no more."""
    del vars(layer)[_MARK]
