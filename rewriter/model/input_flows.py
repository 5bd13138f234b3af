"""How the inputs of the layer families flow into their augmented kernels, where that can be known."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rewriter.core.input_flow import InputFlow

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def flow_of(layer: Any, kernels: Sequence[str], told: bool = False) -> InputFlow | None:
    """Return how the input of a built standard layer flows into the kernels of a pair, ``None`` if it is not known.

    Args:
        layer: The layer.
        kernels: The attributes of the kernels of the pair.
        told: Whether the user has said that the kernel is multiplied by the input, of a layer of no known family.
    """
    shapes = [tuple(getattr(layer, kernel).shape) for kernel in kernels]
    for names, flow in _FLOWS.items():
        if isinstance(layer, keras.layer_classes(*names)):
            found: InputFlow | None = flow(layer, *shapes)
            return found if found is None or _activates_at_the_end(layer) else replace(found, unit_axes=None)
    return InputFlow((-1,), (math.prod(shapes[0]) // shapes[0][-1],), told=True) if told else None


def _activates_at_the_end(layer: Any) -> bool:
    """Tell whether a layer's call is Keras's own: the product, the bias, the activation."""
    cls, known = type(layer), keras.layer_classes(*_ACTIVATED_AT_THE_END)
    # What a convolution does with its kernel users may write too.
    convolve = getattr(cls, "convolution_op", None)
    own = convolve is not None and not any(getattr(each, "convolution_op", None) is convolve for each in known)
    return not own and any(cls.call is each.call for each in known)


def _of_dense(_: Any, kernel: tuple[int, ...]) -> InputFlow:
    return InputFlow((-1,), (kernel[0],), unit_axes=(-1,))


def _of_convolution(layer: Any, kernel: tuple[int, ...]) -> InputFlow:
    channels = kernel[-2] * layer.groups
    axis, taps = _channels(layer, kernel), math.prod(kernel[:-2])
    return InputFlow((axis,), (channels,), taps=taps, groups=layer.groups, unit_axes=(axis,))


def _of_transposed(layer: Any, kernel: tuple[int, ...]) -> InputFlow:
    return InputFlow((_channels(layer, kernel),), (kernel[-1],), taps=math.prod(kernel[:-2]))


def _of_depthwise(layer: Any, kernel: tuple[int, ...]) -> InputFlow:
    return InputFlow((_channels(layer, kernel),), (kernel[-2],), copies=kernel[-1])


def _channels(layer: Any, kernel: tuple[int, ...]) -> int:
    """Return the axis of the channels, of an input that has as many axes as a convolution's kernel."""
    return 1 - len(kernel) if layer.data_format == "channels_first" else -1


def _of_einsum(layer: Any, kernel: tuple[int, ...]) -> InputFlow | None:
    inputs, axes, output = re.split(",|->", layer.equation.replace("...", "").replace(" ", ""))
    summed = [axis for axis in axes if axis not in output]
    # An axis that the input shares with the kernel and the output, as of a batch of kernels, has units of its own.
    if not summed or any(axis not in inputs for axis in summed) or set(inputs) & set(axes) != set(summed):
        return None
    units = [axis for axis in axes if axis in output]
    positions = [[axis for axis in named if axis not in of] for named, of in ((inputs, summed), (output, units))]
    return InputFlow(
        tuple(inputs.index(axis) - len(inputs) for axis in summed),
        tuple(kernel[axes.index(axis)] for axis in summed),
        unit_axes=tuple(output.index(axis) - len(output) for axis in units) if positions[0] == positions[1] else None,
    )


def _of_cell(_: Any, kernel: tuple[int, ...], recurrent_kernel: tuple[int, ...]) -> InputFlow:
    return InputFlow((-1,), (kernel[0],), states=recurrent_kernel[0])


_ACTIVATED_AT_THE_END = ("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D")

# By the names of their classes; the first that fits, as in the table of families.
_FLOWS: dict[tuple[str, ...], Callable[..., InputFlow | None]] = {
    ("DepthwiseConv1D", "DepthwiseConv2D"): _of_depthwise,
    ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"): _of_transposed,
    # Of a separable convolution the kernel that is merged reads what the depthwise one makes, which is not its input.
    ("SeparableConv1D", "SeparableConv2D"): lambda _, __: None,
    ("Conv1D", "Conv2D", "Conv3D"): _of_convolution,
    ("EinsumDense",): _of_einsum,
    ("Dense",): _of_dense,
    ("SimpleRNNCell", "LSTMCell", "GRUCell"): _of_cell,
}
