"""What a layer asks of one weight (a constraint, a regularizer), asked of that weight's rows of ``W*``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rewriter.core.layout import Layout


@dataclass(frozen=True)
class RowConstraint:
    """The constraints of the weights in an augmented kernel, each on its own rows.

    Attributes:
        layout: The augmented kernel's layout.
        constraints: One constraint or ``None`` for each part of the layout.
    """

    layout: Layout
    constraints: tuple[Callable[[Any], Any] | None, ...]

    @classmethod
    def of(cls, layout: Layout, constraints: tuple[Callable[[Any], Any] | None, ...]) -> RowConstraint | None:
        """Make the constraint of an augmented kernel, ``None`` if none of its weights has one."""
        return cls(layout, constraints) if any(constraints) else None

    def __call__(self, augmented: Any) -> Any:
        """Return the augmented kernel with each weight's constraint applied to its rows."""
        values = self.layout.unstack(augmented)
        return self.layout.stack(
            [
                value if constraint is None else constraint(value)
                for value, constraint in zip(values, self.constraints, strict=True)
            ]
        )


@dataclass(frozen=True, eq=False)
class RowLoss:
    """The regularization loss of one weight, computed on its rows of an augmented kernel.

    Attributes:
        function: The loss as Keras made it, of the weight.
        augmented: The augmented kernel.
        layout: Its layout.
        attribute: Which part of it is the weight.
    """

    function: Callable[[Any], Any]
    augmented: Any
    layout: Layout
    attribute: str

    def __call__(self) -> Any:
        """Return the loss, a scalar tensor."""
        return self.function(self.layout.views(self.augmented)[self.attribute])
