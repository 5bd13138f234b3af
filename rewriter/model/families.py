"""The one table of layer families: which layers have weights that can be stacked, and how.

To add a layer, add a line. For a layer that is not here a user declares its pair (``rewriter.pair``), or it is found
in the model's graph (``discover=True``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import SelectorError
from rewriter.core.messages import Message, Sentence
from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import keras
from .pairs import DENSE, Pair, Weight

if TYPE_CHECKING:
    from collections.abc import Callable


def _kernel(attribute: str, *outgoing: int) -> Pair:
    return Pair((Weight(attribute, outgoing or (-1,)),), DENSE.biases)


class Unfit(Sentence):
    """Why the weights of a layer of a known family cannot be stacked."""

    BIAS_OF_NO_UNIT = (
        "in {equation} the kernel's output axes are {units!r} and its bias_axes {bias_axes!r}: every number of the "
        "bias must belong to one output unit"
    )


def _by_equation(layer: Any) -> Pair | Message:
    """Read the axes of an ``EinsumDense`` layer from its equation, or say why it cannot be stacked."""
    _, kernel, output = re.split(",|->", layer.equation.replace(".", "").replace(" ", ""))
    units = [axis for axis in kernel if axis in output]
    if set(layer.bias_axes) != set(units):
        return Unfit.BIAS_OF_NO_UNIT(equation=layer.equation, units="".join(units), bias_axes=layer.bias_axes)
    first = min(map(output.index, layer.bias_axes))
    rank = len(layer.bias.shape)
    return Pair(
        (Weight("kernel", tuple(kernel.index(axis) - len(kernel) for axis in units)),),
        (Weight("bias", tuple(output.index(axis) - first - rank for axis in units)),),
    )


def _depthwise(layer: Any) -> Pair:
    """Name the kernel of a depthwise convolution: that of tf-keras has a name of its own, that of Keras 3 has not."""
    return _kernel("depthwise_kernel" if hasattr(layer, "depthwise_kernel") else "kernel", -2, -1)


@dataclass(frozen=True)
class Family:
    """Layers whose weights are stacked alike.

    Attributes:
        name: How the family is called in ``layers=`` (``--layers``).
        classes: The names of the classes whose instances, subclasses included, belong to it.
        pair: What is stacked, or what tells it for a built layer that has a bias, or why it cannot be.
    """

    name: str
    classes: tuple[str, ...]
    pair: Pair | Callable[[Any], Pair | Message]


# The first that fits: to Keras a depthwise and a transposed convolution are convolutions too.
FAMILIES = (
    Family("dense", ("Dense",), DENSE),
    Family("conv", ("SeparableConv1D", "SeparableConv2D"), _kernel("pointwise_kernel")),
    Family("conv", ("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    Family("conv", ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _kernel("kernel", -2)),
    Family("conv", ("Conv1D", "Conv2D", "Conv3D"), _kernel("kernel")),
    Family("einsum", ("EinsumDense",), _by_equation),
    Family(
        "recurrent",
        ("SimpleRNNCell", "LSTMCell", "GRUCell"),
        Pair((Weight("kernel"), Weight("recurrent_kernel")), DENSE.biases),
    ),
)
NAMES = tuple(dict.fromkeys(family.name for family in FAMILIES))
ALL = "all"


def family_of(layer: Any) -> Family | None:
    """Tell to which family a layer belongs, ``None`` if to no known one."""
    return family_of_class(type(layer))


def family_of_class(cls: type) -> Family | None:
    """Tell to which family the layers of a class belong, ``None`` if to no known one."""
    return next((family for family in FAMILIES if issubclass(cls, keras.layer_classes(*family.classes))), None)


def names_of(chosen: str | Iterable[str]) -> tuple[str, ...]:
    """Read ``layers=``: the name of a family, ``"all"``, or several of these, ``"conv,recurrent"`` too.

    Raises:
        SelectorError: There is no such family.
    """
    several = (chosen,) if isinstance(chosen, str) else chosen
    if not isinstance(several, Iterable):
        raise SelectorError(
            f"{hints.Argument('layers')} takes the names of families, {', '.join(NAMES)} or {ALL}; got {chosen!r}."
        )
    names = tuple(name.strip() for each in several for name in str(each).split(","))
    for name in names:
        if name not in (*NAMES, ALL):
            hint = did_you_mean((closest(name, [*NAMES, ALL]) or _families_with(name))[:1])
            raise SelectorError(
                f"{hints.Argument('layers', name)} is no family of layers: {', '.join(NAMES)} or {ALL}.{hint}"
            )
    return NAMES if ALL in names else names


def _families_with(name: str) -> list[str]:
    """List the families that have layers of some name, ``"LSTM"``, or like it."""
    classes = {cls.lower(): family.name for family in FAMILIES for cls in family.classes}
    classes |= {"multiheadattention": "einsum"}  # its kernels are those of the EinsumDense layers in it
    near = closest(name, classes, count=3, cutoff=0.5) + [each for each in classes if name.lower() in each]
    return [classes[each] for each in near]
