"""What flows back to a merged layer is measured for those who ask, together with what the layer read.

With ``X̃`` the inputs of a call with a one behind each, one row for each position, and ``Δ`` what flows back to the
layer's result before its activation, a call in training adds to sums, on its way back:

    input_moment    X̃ᵀ X̃                      (rows, rows)
    output_moment   N · Δᵀ Δ                   (units, units)
    unit_moments    N · [X̃, X²]ᵀ Δ²            (2 rows - 1, units)

The gradient of the kernel is ``X̃ᵀ Δ`` of a loss that is a mean over ``N`` positions, so ``N Δ`` is what flows back of
the loss at a position, and ``N ΔᵀΔ`` the mean of its square.

The trick is old: a call takes tensors besides that it does not compute with, and by a gradient of its own what flows
back to these is the moment. They are tied to the kernel, so that nothing is added where no gradient of that is taken.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.core.layout import layouts_in

from ...adapters import keras
from .inputs import may_skip_steps, observers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rewriter.core.layout import Layout

INPUT_MOMENT, OUTPUT_MOMENT, UNIT_MOMENTS = MOMENTS = ("input_moment", "output_moment", "unit_moments")


def can_be_measured(layout: Layout) -> bool:
    """Tell whether what flows back to a layer can be measured, together with what each of its kernel rows read."""
    flow = layout.flow
    return flow is not None and flow.unit_axes is not None and not (flow.by_unit or flow.states)


def shape_of_moment(name: str, layout: Layout) -> tuple[int, int]:
    """Return the shape of a moment."""
    rows, units = layout.shape
    return {INPUT_MOMENT: (rows, rows), OUTPUT_MOMENT: (units, units), UNIT_MOMENTS: (2 * rows - 1, units)}[name]


@dataclass(eq=False)
class MomentsObserver:
    """Variables to which the calls of a layer add moments on their way back.

    Attributes:
        layout: The layout of the layer's augmented kernel.
        sums: The sum of each moment, by its name.
        told: A vector: how many steps have added, of which the older count less, and 1 if this step is to add, else 0.
        reduced: Whether the positions of an example are taken as one: the mean of what is read, and the sum of what
            flows back.
        always: Whether every step adds.
        optimizer: Returns the optimizer that asks.
    """

    layout: Layout
    sums: Mapping[str, Any]
    told: Any
    reduced: bool
    always: bool
    optimizer: Callable[[], Any]

    @property
    def variables(self) -> list[Any]:
        """The variables that are saved."""
        return [*self.sums.values(), self.told]


class Measured:
    """A call of a layer whose moments are measured for one observer.

    Args:
        observer: The observer.
        layer: The layer.
        inputs: What it is called with.
        mask: What positions count.
    """

    def __init__(self, observer: MomentsObserver, layer: Any, inputs: Any, mask: Any) -> None:
        self._observer, self._layer, self._inputs, self._mask = observer, layer, inputs, mask
        self._carriers: Any = None

    @property
    def kernel(self) -> str:
        """The layer's attribute that is its kernel, a view that every call reads."""
        return self._observer.layout.attributes[0]

    def tie(self, kernel: Any) -> Any:
        """Tie what is measured to the kernel, a view or the whole; return it, to go on with."""
        optimizer = self._observer.optimizer()
        guarded = may_skip_steps(self._layer, optimizer)
        kernel, self._carriers = keras.carried(
            kernel, self._observer.variables, guarded, self._observer.always, optimizer
        )
        return kernel

    def through(self, results: Any) -> Any:
        """Return the results of the call before its activation, to go on with."""
        dtype = self._observer.told.dtype
        inputs = keras.for_way_back(keras.ops.cast(keras.as_dense(self._inputs), dtype))
        self._mask = None if self._mask is None else keras.for_way_back(self._mask)
        asking, always = self._observer.optimizer(), self._observer.always
        return keras.measured(results, inputs, self._carriers, self._measure, asking, always)

    def _measure(self, inputs: Any, flowing: Any) -> list[Any]:
        """Return the moments of the call."""
        flow, ops = self._observer.layout.flow, keras.ops
        assert flow is not None, "it can be measured"  # noqa: S101
        assert flow.unit_axes is not None, "it can be measured"  # noqa: S101
        is_convolution, axes = isinstance(self._layer, keras.layer_classes("Conv1D", "Conv2D", "Conv3D")), flow.axes
        read, back = inputs, ops.cast(flowing, inputs.dtype)
        if is_convolution:
            read, axes = keras.patches(self._layer, inputs), flow.unit_axes
        read, back = _rows_of(read, axes), _rows_of(back, flow.unit_axes)
        count = ops.cast(ops.convert_to_tensor(ops.shape(inputs if is_convolution else read)[0]), inputs.dtype)
        read = ops.concatenate([read, ops.ones_like(read[:, :1])], axis=1)
        if self._mask is not None and not is_convolution:
            positions = ops.shape(inputs)[: len(inputs.shape) - len(axes)]
            counts = _over_positions(self._mask, positions)
            if counts is not None:
                read = ops.where(counts, read, ops.zeros_like(read))
                count = ops.sum(ops.cast(counts, inputs.dtype))
        if self._observer.reduced:
            size = ops.shape(inputs)[0]
            each = -1 if not isinstance(size, int) or size else 1  # of no examples there are no positions to count
            summed = ops.sum(ops.reshape(read, (size, each, read.shape[1])), axis=1)
            read = ops.divide_no_nan(summed, summed[:, -1:])  # the mean over those that no mask leaves out
            back = ops.sum(ops.reshape(back, (size, each, back.shape[1])), axis=1)
            count = ops.sum(read[:, -1])
        return [_moment(name, read, back, count) for name in self._observer.sums]


def _rows_of(values: Any, axes: Sequence[int]) -> Any:
    """Lay values out as a matrix: a row for each position, and in it the numbers along some axes, in their order."""
    ops, rank = keras.ops, len(values.shape)
    last = [axis % rank for axis in axes]
    order = [*(axis for axis in range(rank) if axis not in last), *last]
    size = 1
    for axis in last:
        size *= values.shape[axis]
    values = values if order == list(range(rank)) else ops.transpose(values, order)
    return ops.reshape(values, (-1, size))


def _over_positions(mask: Any, positions: Any) -> Any:
    """Spread a mask of the first axes of an input over all its positions, as a column; ``None`` if it is of others."""
    ops = keras.ops
    rank = len(mask.shape)
    if rank > len(positions):
        return None
    spread = ops.reshape(ops.cast(mask, "bool"), (*ops.shape(mask), *(1,) * (len(positions) - rank)))
    return ops.reshape(ops.broadcast_to(spread, positions), (-1, 1))


def _moment(name: str, read: Any, back: Any, count: Any) -> Any:
    ops = keras.ops
    if name == INPUT_MOMENT:
        return ops.matmul(ops.transpose(read), read)
    # The count is multiplied where there are fewer numbers.
    if name == OUTPUT_MOMENT:
        return ops.matmul(ops.transpose(back), count * back)
    both = ops.concatenate([read, ops.square(read[:, :-1])], axis=1)
    return ops.matmul(ops.transpose(both), count * ops.square(back))


class _Activation(NamedTuple):
    """An activation behind a layer's measured calls."""

    calls: Sequence[Measured]
    own: Any

    def __call__(self, results: Any) -> Any:
        for call in self.calls:
            results = call.through(results)
        return results if self.own is None else self.own(results)


def measured_calls(layer: Any, inputs: Any) -> list[Measured]:
    """Return what measures a call of a layer that is about to be made, one for each who asks, if it is one of training.

    Args:
        layer: A merged layer.
        inputs: The first argument of its call.
    """
    return [
        Measured(observer, layer, inputs, keras.mask_of(inputs) if keras.is_tensor(inputs) else None)
        for layout in layouts_in(layer)
        for observer in observers_of(layer, layout)
        if isinstance(observer, MomentsObserver)
    ]


@contextlib.contextmanager
def before_activation(layer: Any, calls: Sequence[Measured]) -> Iterator[None]:
    """Inside, a layer that is called measures what flows back to its result before the activation."""
    if not calls:
        yield
        return
    own = layer.activation
    vars(layer)["activation"] = _Activation(calls, own)  # past what Keras does when a layer is given an attribute
    try:
        yield
    finally:
        vars(layer)["activation"] = own
