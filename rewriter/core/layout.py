"""The layout of an augmented kernel: which weights are stacked in it, in which rows.

``W* = [W; b]``. Axis 0 is the incoming axis: one row for every connection that feeds a unit. Column j is unit j.
The bias comes last, always: one row, or as many as the layer has biases for a unit.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rewriter.core.arrays import ops_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.input_flow import InputFlow

AUGMENTED_KERNEL = "augmented_kernel"

_MARK = "_augmented_layout"


@dataclass(frozen=True)
class Part:
    """One weight inside an augmented kernel.

    Attributes:
        attribute: The layer's attribute that holds the weight, ``"kernel"`` or ``"bias"``.
        name: The variable's name without its output index, ``"dense/kernel"``.
        shape: The weight's own shape.
        position: The weight's place among the layer's own weights, so that splitting restores their order.
        outgoing: The axes of the weight that are the layer's units, counted from the end; all others are incoming.
    """

    attribute: str
    name: str
    shape: tuple[int, ...]
    position: int
    outgoing: tuple[int, ...] = (-1,)

    @cached_property
    def rows(self) -> int:
        """How many rows of the augmented kernel the weight fills: the product of its incoming axes."""
        return math.prod(self.shape) // self.units

    @cached_property
    def units(self) -> int:
        """How many units the weight feeds: the product of its outgoing axes."""
        return math.prod(self.shape[axis] for axis in self.outgoing)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The weight's axes, the incoming ones before the outgoing ones."""
        outgoing = [axis % len(self.shape) for axis in self.outgoing]
        return (*(axis for axis in range(len(self.shape)) if axis not in outgoing), *outgoing)

    @cached_property
    def transposed(self) -> bool:
        """Whether the weight's incoming axes are not its first axes. Reading it is then more than a slice."""
        return self.order != tuple(range(len(self.shape)))

    def to_rows(self, value: Any) -> Any:
        """Turn the weight, a tensor or array of its own shape, into its rows of the augmented kernel."""
        ops = ops_of(value)
        if self.transposed:
            value = ops.transpose(value, self.order)
        if tuple(value.shape) == (self.rows, self.units):
            return value
        if tuple(value.shape) == (self.units,):
            return ops.expand_dims(value, 0)  # eagerly a third of the time of reshape
        return ops.reshape(value, (-1, self.units))

    def from_rows(self, rows: Any) -> Any:
        """Turn rows of the augmented kernel into the weight, the inverse of :meth:`to_rows`."""
        # Only copies: a reshape and a transposition move numbers and never compute, so that the bits stay.
        ops, order = ops_of(rows), self.order
        ordered = tuple(self.shape[axis] for axis in order)
        if ordered == (self.rows, self.units):
            value = rows
        elif ordered == (self.units,) and len(rows.shape) == 2:  # noqa: PLR2004
            value = ops.squeeze(rows, 0)  # likewise, in every call of a layer
        else:
            value = ops.reshape(rows, ordered)
        return ops.transpose(value, sorted(range(len(order)), key=order.__getitem__)) if self.transposed else value


class ViewKey(NamedTuple):
    """The key by which optimizers know a view of an augmented kernel, as they know each variable by a key.

    Attributes:
        kernel: The key of the augmented kernel.
        attribute: Which part of it the view is.
    """

    kernel: Any
    attribute: str


@dataclass(frozen=True)
class Layout:
    """Which weights are stacked in an augmented kernel, in which order, with which rows and shapes.

    ``unstack(stack(values)) == values``, bit for bit: both only copy.

    Attributes:
        incoming_axis: The axis along which a unit's incoming connections and its bias lie: 0, of every layout. Axis 1
            is that of the units.
        parts: The weights from the top row to the bottom; the biases come last.
        biases: How many of the parts are biases.
        attribute: The layer's attribute that holds the augmented kernel.
        scope: The scope of its variable's name, where the weights have none.
        flow: How the layer's input flows into the kernel rows, ``None`` where that is not known.
    """

    incoming_axis: ClassVar[int] = 0

    parts: tuple[Part, ...]
    biases: int = 1
    attribute: str = AUGMENTED_KERNEL
    scope: str = ""
    flow: InputFlow | None = None

    @property
    def name(self) -> str:
        """The augmented kernel's variable name, in the scope of the first weight: ``"dense/augmented_kernel"``."""
        return f"{_scope(self.parts[0].name) or self.scope}{self.attribute}"

    def part_names(self, augmented_name: str) -> tuple[str, ...]:
        """Return the names of the parts for a variable name, which loading a SavedModel may have changed.

        Args:
            augmented_name: The variable's name now, ``"encoder/dense/augmented_kernel:0"``.

        Returns:
            The name of each part, in the scope that the augmented kernel has now.
        """
        # A nested model that is read from a SavedModel may have another scope. A weight in a scope of its own keeps it.
        then, now = _scope(self.name), _scope(augmented_name)
        return tuple(
            now + part.name.removeprefix(then) if part.name.startswith(then) else part.name for part in self.parts
        )

    @property
    def attributes(self) -> tuple[str, ...]:
        """The layer's attributes that hold the weights in standard form, in the order of the parts."""
        return tuple(part.attribute for part in self.parts)

    @property
    def position(self) -> int:
        """The augmented kernel's place among the layer's own weights: that of the first weight stacked in it."""
        return min(part.position for part in self.parts)

    @property
    def units(self) -> int:
        """Number of units, the columns of the augmented kernel.

        Of a recurrent layer it is gates times units, 4 of an LSTM and 3 of a GRU; of a depthwise convolution channels
        times multipliers.
        """
        return self.parts[-1].units

    @property
    def bias_rows(self) -> slice:
        """The rows of the augmented kernel that are bias."""
        return slice(self.kernel_rows.stop, self.shape[0])

    @property
    def kernel_rows(self) -> slice:
        """The rows of the augmented kernel that are kernel."""
        return slice(0, sum(part.rows for part in self.parts[: -self.biases]))

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
        blocks = [part.to_rows(value) for part, value in zip(self.parts, values, strict=True)]
        return ops_of(blocks[0]).concatenate(blocks, axis=0)

    def unstack(self, augmented: Any) -> tuple[Any, ...]:
        """Take an augmented kernel apart again, by one split whose gradient is one concatenation.

        Args:
            augmented: Tensor or variable of shape ``self.shape``.

        Returns:
            One new tensor for each part, in the part's own shape and the dtype of ``augmented``.
        """
        ends = [*itertools.accumulate(part.rows for part in self.parts)]
        blocks = ops_of(augmented).split(augmented, ends[:-1], axis=0)
        return tuple(part.from_rows(block) for part, block in zip(self.parts, blocks, strict=True))

    def views(self, augmented: Any) -> dict[str, Any]:
        """Take an augmented kernel apart as :meth:`unstack` does, by the attribute of each part."""
        return {part.attribute: value for part, value in zip(self.parts, self.unstack(augmented), strict=True)}

    def attach(self, *variables: Any) -> None:
        """Mark variables as augmented kernels of this layout."""
        for variable in variables:
            object.__setattr__(variable, _MARK, self)


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
    # An attribute, as it has to follow the variable into graphs, replicas and wrappers. A table by id would not.
    layout: Layout | None = getattr(variable, _MARK, None)
    return layout


def is_merged(layer: Any) -> bool:
    """Tell whether a layer has augmented kernels: it is rewritten and built."""
    return _MARK in vars(layer)


def layouts_in(layer: Any) -> tuple[Layout, ...]:
    """Read the layouts of a layer's augmented kernels; there are none if it is not rewritten."""
    layouts: tuple[Layout, ...] = vars(layer).get(_MARK, ())
    return layouts


def augmented_kernels(layer: Any) -> list[Any]:
    """List a layer's augmented kernels, in the order of :func:`layouts_in`."""
    return [getattr(layer, layout.attribute) for layout in layouts_in(layer)]


def standard_weights(layer: Any) -> dict[str, Any]:
    """Read all weights that are stacked in a layer's augmented kernels, by attribute, as slices of them."""
    return {
        attribute: value
        for layout, augmented in zip(layouts_in(layer), augmented_kernels(layer), strict=True)
        for attribute, value in layout.views(augmented).items()
    }


def attach_to_layer(layer: Any, layouts: Sequence[Layout]) -> None:
    """Mark a layer as one that has augmented kernels of these layouts."""
    object.__setattr__(layer, _MARK, tuple(layouts))  # past Keras's attribute tracking


def detach(layer: Any) -> None:
    """Remove the mark of :func:`attach_to_layer` from a layer that is separated."""
    del vars(layer)[_MARK]


def places_among_weights(layouts: Sequence[Layout]) -> list[int]:
    """Return the place of each augmented kernel among the layer's own weights, after the merged weights are removed."""
    # In standard form the weights before it come first; those of them that are merged are gone, and kernels are there.
    parts = [part for layout in layouts for part in layout.parts]
    return [
        layout.position
        - sum(part.position < layout.position for part in parts)
        + sum(other.position < layout.position for other in layouts)
        for layout in layouts
    ]
