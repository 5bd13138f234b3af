"""What the pass does to one kernel, and why, as data; and where that is in the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .reasons import Skip

if TYPE_CHECKING:
    from rewriter.core.layout import Layout
    from rewriter.core.messages import Message


class Place(NamedTuple):
    """A layer in the tree, or the model itself at its root.

    Attributes:
        path: Where it is in the model; ``""`` is the model.
        above: The path of the layer that holds it.
        layer: Its standard class name.
        parameters: How many numbers its own weights have; what the layers in it have is counted there.
        unlooked: Whether it is of a user's class and has several weights, of which nobody has said or looked whether
            they are a pair.
    """

    path: str
    above: str
    layer: str
    parameters: int
    unlooked: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.removeprefix(f"{self.above}/")

    def to_dict(self) -> dict[str, str | int]:
        """Return ``path``, ``layer`` and ``parameters`` as JSON data."""
        return {"path": self.path, "layer": self.layer, "parameters": self.parameters}


@dataclass(frozen=True)
class Decision:
    """What the pass does to one kernel of a layer; nearly all layers that own a kernel own one.

    Attributes:
        path: Where the layer is in the model; the first of its paths, if it is shared.
        layer: The layer's standard class name, ``"Dense"``.
        action: ``"merge"`` or ``"skip"``.
        why: Why; ``reason`` says it in words.
        weights: The attributes that hold what is or could be merged, the bias last; ``("kernel", "bias")``.
        kernel_shape: ``None`` where the layer is not built.
        bias_shape: ``None`` where the layer has no bias or is not built.
        augmented_shape: ``(fan_in + 1, units)`` of the ``W*`` there is or will be, ``None`` where there is none.
        dtype: Name of the dtype in which the kernel is stored, ``None`` where the layer is not built.
        trainable: Whether training updates the layer, as far as the layer itself says.
        centering: What a centered optimizer makes of it, ``None`` if it is not and will not be merged.
        found: The pair was found in the graph of the model, and is to be checked before it is believed.
        unasked: The pair could be merged, if layers of its family were asked for.
        blocked: The layer has a kernel and bias pair that was selected and cannot be merged.
        target: The layer.
        layout: How its weights are or will be stacked; ``None`` where they are not.
    """

    path: str
    layer: str
    action: str
    why: Message
    weights: tuple[str, ...]
    kernel_shape: tuple[int, ...] | None
    bias_shape: tuple[int, ...] | None
    augmented_shape: tuple[int, int] | None
    dtype: str | None
    trainable: bool
    centering: Message | None
    found: bool = field(repr=False)
    blocked: bool = field(repr=False)
    unasked: bool = field(repr=False)
    target: Any = field(repr=False, compare=False)
    layout: Layout | None = field(repr=False, compare=False)

    @property
    def reason(self) -> str:
        """Why, in words."""
        return str(self.why)

    @property
    def is_merged(self) -> bool:
        """Whether the layer is merged already."""
        return self.why.kind in {Skip.ALREADY_MERGED, Skip.STAYS_MERGED}

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON data, shapes as lists, ``null`` for ``None``.

        The keys are ``path``, ``layer``, ``action``, ``reason``, ``weights``, ``kernel_shape``, ``bias_shape``,
        ``augmented_shape``, ``dtype``, ``trainable`` and ``centering``, in words.
        """
        shapes = {name: getattr(self, name) for name in ("kernel_shape", "bias_shape", "augmented_shape")}
        return {
            "path": self.path,
            "layer": self.layer,
            "action": self.action,
            "reason": self.reason,
            "weights": list(self.weights),
            **{name: None if shape is None else list(shape) for name, shape in shapes.items()},
            "dtype": self.dtype,
            "trainable": self.trainable,
            "centering": None if self.centering is None else str(self.centering),
        }
