"""What the layers of an optimizer's variables see in training: running sums, kept and saved by the optimizer."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rewriter.core.layout import layout_of

from ..adapters import keras
from ..model.observation.inputs import Observer, Observers

if TYPE_CHECKING:
    from collections.abc import Sequence

SUMS = "inputs"  # what the names of the variables begin with


@dataclass
class LayerStatistics:
    """Sums over the inputs of layers, and their number, of which the older count less.

    Each call in training adds to both. At a step they are summed over the replicas, and after it multiplied by
    ``decay``. With batches of one size their ratio is the bias-corrected running mean of the batches' means.

    Attributes:
        decay: How much of what was seen before still counts at the next step, in [0, 1].
        observers: The variables, by the key of each augmented kernel.
    """

    decay: float
    observers: Observers = field(default_factory=Observers)

    def build(
        self,
        optimizer: Any,
        variables: Sequence[Any],
        centers: bool = False,
        scales: bool = False,
        name: str = SUMS,
    ) -> list[Any]:
        """Have what the layers of some variables see added up from now on, where it is not yet.

        Args:
            optimizer: The optimizer.
            variables: The variables that it trains.
            centers: Whether gradients are wanted in the coordinates of the means.
            scales: Whether the scale of each layer's bias step is kept too.
            name: What the variables are called; an optimizer that has two of these gives each a name of its own.

        Returns:
            The variables that hold the sums, in the order of ``variables``, as files restore them by position.
        """
        kept = []
        for variable in variables:
            key, layout = keras.variable_key(optimizer, variable), layout_of(variable)
            if layout is None or layout.flow is None:
                continue
            if key not in self.observers.of:
                seen = keras.statistic_like(variable, name, (layout.flow.features + 1,), self.decay)
                twin = keras.twin_of(variable) if centers else None
                scale = keras.statistic_like(variable, "bias_scale", (2,)) if scales else None
                self.observers.add(variable, key, Observer(layout, seen, twin, scale, weakref.ref(optimizer)))
                keras.hold_while_kept(seen, self.observers)
            kept += self.observers.of[key].variables
        return kept

    def of(self, optimizer: Any, variable: Any) -> Observer | None:
        """Return what is kept of a variable, ``None`` where nothing is."""
        return self.observers.of.get(keras.variable_key(optimizer, variable))

    @property
    def variables(self) -> list[Any]:
        """All variables."""
        return [variable for observer in self.observers.of.values() for variable in observer.variables]

    def share(self) -> None:
        """Share the sums over the replicas, so that all take the same step; called before it."""
        keras.share_over_replicas([observer.seen for observer in self.observers.of.values()])

    def forget(self) -> None:
        """Let what was seen before weigh less; called after a step."""
        for observer in self.observers.of.values():
            observer.forget(self.decay)
