"""What a centered optimizer has beside its slots: what its layers saw, and which layers it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core.layout import augmented_kernels, is_merged

from ...adapters import keras
from ...model.selectors import select
from ...model.walk import locate_layers

if TYPE_CHECKING:
    from ...model.selectors import Selectors
    from ..layer_statistics import LayerStatistics


@dataclass
class State:
    """What a centered optimizer has beside its slots.

    Attributes:
        statistics: What its layers saw.
        include: Selectors of the layers to center, or ``None``.
        exclude: Selectors of the layers to leave out, or ``None``.
        left_out: The keys of the augmented kernels that are not to be centered; ``None`` before that is resolved.
        is_told: Whether it was said that there is nothing to center.
    """

    statistics: LayerStatistics
    include: Selectors
    exclude: Selectors
    left_out: frozenset[Any] | None = None
    is_told: bool = False

    @property
    def is_resolved(self) -> bool:
        """Whether it is known which layers the selectors choose."""
        return self.left_out is not None or (self.include is None and self.exclude is None)

    def resolve(self, optimizer: Any, model: Any) -> None:
        """Find out which layers of a model the selectors choose; nothing is done where no layer is merged.

        Args:
            optimizer: The optimizer.
            model: A model that it trains.

        Raises:
            SelectorError: A selector matches no merged layer.
        """
        merged = [found for found in locate_layers(model) if is_merged(found.layer)]
        if not merged:
            return
        chosen = select(merged, self.include, self.exclude).chosen
        here, left_out = set(), set()
        for found in merged:
            keys = {keras.variable_key(optimizer, kernel) for kernel in augmented_kernels(found.layer)}
            here |= keys
            left_out |= keys if id(found.layer) not in chosen else set()
        # One optimizer may train several models.
        self.left_out = frozenset((self.left_out or frozenset()) - here | left_out)
