"""What tf-keras alone asks of a merged layer; what every Keras asks is in ``rewriter.model.augmented_layers``."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from rewriter.core.derived_classes import Mixin

from ..configs import has_public_name
from ..observation.statistics import CAST_MASK


class LayerBase(Mixin):
    """Base of the mixin that goes before the class of a merged layer.

    A subclass writes the first three methods. Whatever is
    added to a user's class has a name that a user would not choose.
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

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build the layer when it is loaded, in its own name scope: Keras builds its own layers of a file in theirs."""
        shape = config.get("input_shape")
        if isinstance(shape, list) and all(size is None or isinstance(size, int) for size in shape):
            # JSON has made a list of it, which recurrent layers of tf-keras 2.18 take for a list of shapes.
            config = {**config, "input_shape": tuple(shape)}
        with tf_keras.backend.name_scope(self.name):  # type: ignore[attr-defined]
            super().build_from_config(config)  # type: ignore[misc]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self._rewriter_mark_copy()

    def _lookup_dependency(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # Asked by a checkpoint that is being restored, before it restores anything.
        self._rewriter_require_whole(name)
        return super()._lookup_dependency(name, *args, **kwargs)  # type: ignore[misc]

    def _maybe_cast_inputs(self, inputs: Any, *args: Any) -> Any:
        # Keras leaves the mask with what it casts. It goes on under another name: whom the layer calls is told as ever.
        cast = super()._maybe_cast_inputs(inputs, *args)  # type: ignore[misc]
        for before, after in zip(tf.nest.flatten(inputs), tf.nest.flatten(cast), strict=True):
            if after is not before and getattr(before, "_keras_mask", None) is not None:
                setattr(after, CAST_MASK, before._keras_mask)
        return cast

    @property
    def _use_input_spec_as_call_signature(self) -> bool:
        # Keras answers by whether the class has a public name; an augmented class always has one.
        return has_public_name(self._rewriter_standard_class())
