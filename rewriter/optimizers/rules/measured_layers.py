"""Rules that need to know what flows back to a layer: those layers of which it is not known get AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rewriter.core.layout import layout_of, layouts_in

from ...model.flowing_back import can_be_measured
from .adam import AdamForOthers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...model.walk import LocatedLayer


class MeasuredLayers(AdamForOthers):
    """The base of these rules.

    Attributes:
        uncentered: Why they are not to be centered.
    """

    uncentered: ClassVar[str] = "it does not see a shift of a layer's inputs, so it gains nothing by centering"

    def choose_layers(self, merged: Sequence[LocatedLayer], outputs: Callable[[], frozenset[int]]) -> None:
        """Note which merged layers get AdamW.

        Args:
            merged: The merged layers.
            outputs: Not needed.
        """
        del outputs
        self._lines = [
            f"{type(self).__name__}: AdamW for {found.paths[0]}, of which it is not known what flows back"
            for found in merged
            if not all(map(can_be_measured, layouts_in(found.layer)))
        ]

    @property
    def lines(self) -> list[str]:
        """What the log is to say of that."""
        return list(getattr(self, "_lines", ()))

    def leaves_to_adam(self, variable: Any) -> bool:
        """Tell whether a variable is an augmented kernel that gets AdamW.

        Args:
            variable: The variable.
        """
        layout = layout_of(variable)
        return layout is not None and not can_be_measured(layout)
