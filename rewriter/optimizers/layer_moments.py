"""Moments of what layers read and of what flows back to them, kept and saved by an optimizer."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rewriter.core.flags import require_flags
from rewriter.core.layout import layout_of

from ..adapters import keras
from ..model.observation.flowing_back import INPUT_MOMENT, MomentsObserver, can_be_measured, shape_of_moment
from ..model.observation.inputs import Observers
from .hyperparameters import require_count, require_number

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class RunningMean:
    """How a rule wants the moments that it asks its layers for.

    Attributes:
        decay: How much of what was seen before still counts at the next step that measures, in [0, 1].
        every: After how many steps one measures, at least 1; the first does. The mean stays in between.
        reduce: Whether the positions of an example are taken as one: the mean of what is read, and the sum of what
            flows back. Otherwise each counts as an example of its own.
    """

    decay: float = 0.95
    every: int = 1
    reduce: bool = False

    def __post_init__(self) -> None:
        require_number("decay", self.decay, 0, 1)
        require_count("every", self.every)
        require_flags(reduce=self.reduce)


@dataclass
class LayerMoments:
    """Running means of moments of layers.

    Attributes:
        names: Which moments.
        mean: How their mean is taken.
        observers: The variables, by the key of each augmented kernel.
    """

    names: tuple[str, ...]
    mean: RunningMean
    observers: Observers = field(default_factory=Observers)

    def build(self, optimizer: Any, variables: Sequence[Any]) -> list[Any]:
        """Have what the layers of some variables read, and what flows back, measured from now on, where it is not yet.

        Args:
            optimizer: The optimizer.
            variables: The variables that it trains.

        Returns:
            The variables that hold the moments, in the order of ``variables``, as files restore them by position.
        """
        kept = []
        for variable in variables:
            key, layout = keras.variable_key(optimizer, variable), layout_of(variable)
            if layout is None or not can_be_measured(layout):
                continue
            if key not in self.observers.of:
                told = keras.told_like(variable, self.mean.decay, self.mean.every)
                sums = {
                    name: keras.moment_like(
                        variable, name, shape_of_moment(name, layout), told, squares_gradients=name != INPUT_MOMENT
                    )
                    for name in self.names
                }
                observer = MomentsObserver(
                    layout, sums, told, self.mean.reduce, self.mean.every == 1, weakref.ref(optimizer)
                )
                self.observers.add(variable, key, observer)
                for each in observer.variables:
                    keras.hold_while_kept(each, self.observers)
            kept += self.observers.of[key].variables
        return kept

    def of(self, optimizer: Any, variable: Any, name: str) -> Any:
        """Return a running mean, of the dtype in which it is kept; ``None`` of a layer of which nothing is known.

        Args:
            optimizer: The optimizer.
            variable: An augmented kernel that it trains.
            name: One of ``names``.
        """
        observer = self.observers.of.get(keras.variable_key(optimizer, variable))
        if observer is None:
            return None
        total = keras.ops.convert_to_tensor(observer.sums[name])
        if name == INPUT_MOMENT:
            return keras.ops.divide_no_nan(total, total[-1, -1])
        # Each replica sees a part of the batch, over which the loss is a mean.
        count = keras.ops.convert_to_tensor(observer.told)[0]
        return total * keras.ops.divide_no_nan(keras.replicas_of_loss() * keras.ops.ones_like(count), count)

    def has_measured(self, optimizer: Any, variable: Any) -> Any:
        """Tell whether a step has measured a variable's layer: a scalar of truth.

        Args:
            optimizer: The optimizer.
            variable: An augmented kernel that it trains, of a layer that can be measured.
        """
        told = self.observers.of[keras.variable_key(optimizer, variable)].told
        return keras.ops.convert_to_tensor(told)[0] > 0

    def begin_step(self) -> None:
        """Share the sums over the replicas, so that all take the same step; called before it."""
        keras.count_moments(self._told_by())

    def end_step(self, steps: Any) -> None:
        """Let what was measured before weigh less, and tell the layers whether the next step measures.

        Args:
            steps: How many steps have been taken.
        """
        keras.forget_moments(self._told_by(), self.mean.decay, self.mean.every, steps)

    def _told_by(self) -> list[tuple[list[Any], Any]]:
        """List of each layer the moments, and what they are told by."""
        return [(list(each.sums.values()), each.told) for each in self.observers.of.values()]
