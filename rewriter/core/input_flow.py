"""How the input of a layer flows into its augmented kernel: which features feed which rows, or which units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rewriter.core.arrays import ops_of


@dataclass(frozen=True)
class InputFlow:
    """The features of a layer's input, as they meet the kernel rows of ``W*``.

    Attributes:
        axes: The axes of the input that are features, counted from the end, in the order in which the kernel has them.
            All other axes are positions: the layer uses its kernel once for each.
        sizes: The size of each of these axes.
        taps: How many rows read each feature: the places of a convolution's window, the features the fastest.
        copies: Of a depthwise convolution, in which every unit reads one feature and every row all of them: how many
            neighbouring units read each. 0 of all other layers, in which every row reads one feature.
        groups: Of a grouped convolution, in how many groups of neighbouring units each reads features of its own.
        states: Of a recurrent cell, how many rows below those of the input read its state, a feature each.
        unit_axes: The axes of the layer's result, before its activation, that are units, counted from the end, in the
            order in which the kernel has them; all others are positions, in the order of those of the input. ``None``
            where that is not known, or a call does not apply the layer's activation to that result.
        told: Whether a user has said so, of a layer of no known family.
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    taps: int = 1
    copies: int = 0
    groups: int = 1
    states: int = 0
    unit_axes: tuple[int, ...] | None = None
    told: bool = False

    @property
    def inputs(self) -> int:
        """How many features the input has."""
        return math.prod(self.sizes)

    @property
    def features(self) -> int:
        """How many features there are, a cell's states among them."""
        return self.inputs + self.states

    @property
    def by_unit(self) -> bool:
        """Whether the units read different features."""
        return bool(self.copies) or self.groups > 1

    def beside_units(self, mean: Any, units: int) -> Any:
        """Lay the mean of the features out beside kernel rows that read different features for different units.

        Args:
            mean: One number for each feature, of shape ``(features,)``.
            units: How many units there are.

        Returns:
            The mean of what each number of the kernel reads, of shape ``(rows, units)``, or ``(1, units)`` if it is the
            same for all rows.
        """
        ops = ops_of(mean)
        if self.copies:
            return ops.reshape(ops.stack([mean] * self.copies, axis=1), (1, -1))
        of_groups = ops.reshape(mean, (self.groups, -1))  # of each group, the features that it reads
        of_units = ops.stack([of_groups] * (units // self.groups), axis=1)
        by_feature = ops.reshape(ops.transpose(of_units, (2, 0, 1)), (-1, units))
        return ops.concatenate([by_feature] * self.taps, axis=0)

    def above_biases(self, mean: Any, biases: int) -> Any:
        """Lay the mean of the features out for a product with the kernel rows.

        Args:
            mean: One number for each feature, of shape ``(features,)``.
            biases: How many bias rows there are: with two, the first belongs to the input and the second to the state.

        Returns:
            A matrix ``m`` of shape ``(biases, rows)``: ``b + m W`` is the mean of what flows into each unit.
        """
        ops = ops_of(mean)
        row = ops.reshape(ops.concatenate([mean] * self.taps, axis=0), (1, -1))
        if biases == 1:
            return row
        of_input, of_state = ops.split(row, [self.inputs], axis=1)
        above, below = ops.zeros_like(of_state), ops.zeros_like(of_input)
        return ops.concatenate(
            [ops.concatenate([of_input, above], axis=1), ops.concatenate([below, of_state], axis=1)], axis=0
        )
