"""What Keras 3 alone asks of a merged layer; what every Keras asks is in ``rewriter.model.augmented_layers``."""

from __future__ import annotations

from typing import Any

from rewriter.core.derived_classes import Mixin


class LayerBase(Mixin):
    """Base of the mixin that goes before the class of a merged layer.

    A subclass writes these methods. Whatever is added to a user's class has a name that a user would not choose.
    """

    def _rewriter_standard_class(self) -> type:
        """Return the class that the layer had before it was merged."""
        raise NotImplementedError

    def _rewriter_require_whole(self, name: str) -> None:
        """Raise an error if a checkpoint has one of the layer's weights by itself, given the weight's name."""
        raise NotImplementedError

    def _rewriter_mark_copy(self) -> None:
        """Give the variables of a copied layer their marks."""
        raise NotImplementedError

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self._rewriter_mark_copy()
