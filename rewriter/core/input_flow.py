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
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    taps: int = 1
    copies: int = 0

    @property
    def features(self) -> int:
        """How many features there are."""
        return math.prod(self.sizes)

    def spread(self, mean: Any) -> Any:
        """Lay the mean of the features out beside the kernel rows.

        Args:
            mean: One number for each feature, of shape ``(features,)``.

        Returns:
            A row: of shape ``(1, rows)``, or ``(1, units)`` of a depthwise convolution, the same for all rows.
        """
        ops = ops_of(mean)
        spread = ops.stack([mean] * self.copies, axis=1) if self.copies else ops.concatenate([mean] * self.taps, axis=0)
        return ops.reshape(spread, (1, -1))
