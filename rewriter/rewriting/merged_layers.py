"""Which layers of a model are merged, for programs that are built on this library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.core.layout import layouts_in

from ..model.walk import locate_layers

if TYPE_CHECKING:
    from rewriter.core.layout import Layout


class MergedLayer(NamedTuple):
    """A merged layer, with one of its augmented kernels; nearly all have one.

    Attributes:
        path: Where the layer is in the model, as in a plan.
        layer: The layer itself.
        layout: The layout of the augmented kernel, which is the layer's attribute ``layout.attribute``.
    """

    path: str
    layer: Any
    layout: Layout

    @property
    def kernel(self) -> Any:
        """The augmented kernel, the variable itself, of shape ``layout.shape``."""
        return getattr(self.layer, self.layout.attribute)


def merged_layers(model: Any) -> list[MergedLayer]:
    """List the merged layers of a model, in its order, each once however often it is shared.

    Args:
        model: A Keras model, or a layer with layers inside it.

    Returns:
        One for each augmented kernel; none for a model that is not rewritten, or is in standard form for now.

    Raises:
        ModelError: ``model`` is neither.
    """
    return [
        MergedLayer(found.paths[0], found.layer, layout)
        for found in locate_layers(model)
        for layout in layouts_in(found.layer)
    ]


def is_rewritten(model: Any) -> bool:
    """Tell whether a model has a merged layer.

    Args:
        model: A Keras model, or a layer with layers inside it.

    Raises:
        ModelError: ``model`` is neither.
    """
    return bool(merged_layers(model))
