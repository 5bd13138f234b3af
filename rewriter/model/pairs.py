"""Which weights of a layer belong together: the kernels and biases that are stacked in one augmented kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core.layout import AUGMENTED_KERNEL, Layout, Part

from ..adapters import keras
from .input_flows import flow_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Weight:
    """One weight of a pair.

    Attributes:
        attribute: The layer's attribute that holds it.
        outgoing: Its axes that are the layer's units, counted from the end; each index in all others is a row.
    """

    attribute: str
    outgoing: tuple[int, ...] = (-1,)


@dataclass(frozen=True)
class Pair:
    """The weights that flow into the same units of a layer, from the top row of the augmented kernel to the bottom.

    Attributes:
        kernels: The kernels: mostly one, two where a layer is fed by its own state as well.
        biases: The biases; one weight may hold several for a unit.
        reads_input: A user has said that the kernel is multiplied by the layer's input.
    """

    kernels: tuple[Weight, ...]
    biases: tuple[Weight, ...]
    reads_input: bool = False

    @property
    def weights(self) -> tuple[Weight, ...]:
        """All weights, the biases last."""
        return self.kernels + self.biases

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that hold the weights."""
        return tuple(weight.attribute for weight in self.weights)

    def to_config(self) -> dict[str, Any]:
        """Return the pair as JSON data."""
        weights = {
            name: [{"attribute": weight.attribute, "outgoing": list(weight.outgoing)} for weight in weights]
            for name, weights in (("kernels", self.kernels), ("biases", self.biases))
        }
        return {**weights, "reads_input": True} if self.reads_input else weights

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pair:
        """Make a pair from the data of :meth:`to_config`."""
        kernels, biases = (
            tuple(Weight(weight["attribute"], tuple(weight["outgoing"])) for weight in config[name])
            for name in ("kernels", "biases")
        )
        return cls(kernels, biases, bool(config.get("reads_input", False)))


DENSE = Pair((Weight("kernel"),), (Weight("bias"),))


def layouts_for(layer: Any, pairs: Sequence[Pair]) -> tuple[Layout, ...]:
    """Describe how the weights of a built standard layer are stacked, one layout a pair; touches nothing."""
    positions = {id(weight): position for position, weight in enumerate(keras.own_weights(layer))}

    def part(weight: Weight) -> Part:
        variable = getattr(layer, weight.attribute)
        return Part(
            weight.attribute, keras.name_of(variable), tuple(variable.shape), positions[id(variable)], weight.outgoing
        )

    return tuple(
        Layout(
            tuple(part(weight) for weight in pair.weights),
            biases=len(pair.biases),
            attribute=f"{AUGMENTED_KERNEL}_{index}" if index else AUGMENTED_KERNEL,
            scope=_scope_for(layer, pair),
            flow=flow_of(layer, [weight.attribute for weight in pair.kernels], told=pair.reads_input),
        )
        for index, pair in enumerate(pairs)
    )


def _scope_for(layer: Any, pair: Pair) -> str:
    """Return a scope for an augmented kernel whose weights have no scope: all would have one name."""
    # Of a SavedModel, Keras names the weights of a layer by their attributes alone; they keep that.
    of_keras = any(keras.name_of(getattr(layer, each)) == each for each in pair.attributes)
    return "" if of_keras else f"{layer.name}/"


def pair_of(layout: Layout) -> Pair:
    """Read from a layout which weights are paired, the inverse of :func:`layouts_for`."""
    weights = tuple(Weight(part.attribute, part.outgoing) for part in layout.parts)
    told = layout.flow is not None and layout.flow.told
    return Pair(weights[: -layout.biases], weights[-layout.biases :], told)
