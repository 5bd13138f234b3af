"""What Keras 3 alone asks of a merged layer; what every Keras asks is in ``rewriter.model.augmented_layers``."""

from __future__ import annotations

from typing import Any

import keras

from rewriter.core.derived_classes import Mixin

from ..layers import public_attribute
from ..observation.layer_statistics import hidden_statistics


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

    def save_own_variables(self, store: Any) -> None:
        """Save the weights as they are: Keras's own layers would look for each by its name."""
        with hidden_statistics(self):
            if self._rewriter_saves_by_itself():
                super().save_own_variables(store)  # type: ignore[misc]
            else:
                keras.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Load the weights as they are."""
        with hidden_statistics(self):
            if self._rewriter_saves_by_itself():
                super().load_own_variables(store)  # type: ignore[misc]
            else:
                keras.Layer.load_own_variables(self, store)

    def _rewriter_saves_by_itself(self) -> bool:
        """Tell whether a user's class says how the layer is saved."""
        cls = self._rewriter_standard_class()
        owner = next(each for each in cls.__mro__ if "save_own_variables" in vars(each))
        return not owner.__module__.startswith("keras.")

    def _lookup_dependency(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # Asked on TensorFlow by a checkpoint that is being restored, before it restores anything.
        self._rewriter_require_whole(public_attribute(name))
        return super()._lookup_dependency(name, *args, **kwargs)  # type: ignore[misc]

    def enable_lora(self, *_: Any, **__: Any) -> None:
        """Refuse: Keras would freeze a kernel that is a variable of its own."""
        raise NotImplementedError(self._rewriter_refused("given LoRA weights"))

    def _not_implemented_error(self, attr: Any, msg: str | None = None) -> NotImplementedError:
        # What Keras raises, or warns of for each layer of a model, where it is to quantize any class but its own.
        if getattr(attr, "__name__", "") == "quantize":
            return NotImplementedError(self._rewriter_refused("quantized"))
        error: NotImplementedError = super()._not_implemented_error(attr, msg)  # type: ignore[misc]
        return error

    def _rewriter_refused(self, what: str) -> str:
        name = self.name  # type: ignore[attr-defined]
        return f"{name} is merged, so it cannot be {what}: call rewriter.split(model) first."

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        self._rewriter_mark_copy()
