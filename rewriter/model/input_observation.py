"""What a merged layer sees in training is added up for those who ask: sums of its features, and their number.

Who asks leaves an observer with the augmented kernel. A call of the layer in training adds to it; inference adds
nothing, nor does a call that is only a check.
"""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rewriter.adapters import keras
from rewriter.core.layout import layouts_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rewriter.core.layout import Layout

_MARK = "_rewriter_observers"
_OBSERVED: contextvars.ContextVar[Literal["never", "training", "always"]] = contextvars.ContextVar(
    "observed", default="training"
)


@dataclass
class Observer:
    """Variables to which the calls of a layer add.

    Attributes:
        layout: The layout of the layer's augmented kernel.
        seen: A vector: the sum of each feature, in the order of the layout's
            :class:`~rewriter.core.input_flow.InputFlow`, and the number of positions.
        twin: A scalar whose gradient is that of the kernel in centered coordinates.
        products: The gradients of the kernel that calls with the twin have made since the last step. If that of the
            whole loss is no sum of these alone, the kernel is used in another way too, and the twin knows a part only.
    """

    layout: Layout
    seen: Any
    twin: Any
    products: list[Any] = field(default_factory=list)

    def mean(self, dtype: Any) -> Any:
        """Return the mean of the features in some dtype, of shape ``(features,)``; zeros before the first call."""
        seen = keras.ops.convert_to_tensor(self.seen)
        return keras.ops.cast(keras.ops.divide_no_nan(seen[:-1], seen[-1]), dtype)


class Observers:
    """The observers of an optimizer, which keeps them; augmented kernels only know them as long as it does."""

    def __init__(self) -> None:
        self.of: dict[Any, Observer] = {}

    def add(self, kernel: Any, key: Any, observer: Observer) -> None:
        """Have the calls of a layer add to an observer from now on.

        Args:
            kernel: The layer's augmented kernel.
            key: The kernel's key.
            observer: The observer.
        """
        self.of[key] = observer
        for each in keras.variable_and_wrapped(kernel):
            known = [held for held in getattr(each, _MARK, ()) if held[0]() not in (None, self)]
            object.__setattr__(each, _MARK, (*known, (weakref.ref(self), key)))


def unobserved() -> AbstractContextManager[None]:
    """Inside, calls of layers add to no observer."""
    return _observing("never")


def observing_all() -> AbstractContextManager[None]:
    """Inside, calls of layers add to observers in inference too."""
    return _observing("always")


@contextlib.contextmanager
def _observing(which: Literal["never", "always"]) -> Iterator[None]:
    token = _OBSERVED.set(which)
    try:
        yield
    finally:
        _OBSERVED.reset(token)


def observe(layer: Any, inputs: Any, twins: bool = False) -> Observer | None:
    """Add what a layer is called with to the observers of its augmented kernels, if the call is one of training.

    Args:
        layer: A merged layer.
        inputs: The first argument of its call.
        twins: Whether the call can make use of a twin.

    Returns:
        The observer whose twin the call is to use, ``None`` for a call as ever.
    """
    twinned = None
    for layout in layouts_in(layer):
        kernel = getattr(layer, layout.attribute)
        held = getattr(kernel, _MARK, ())
        if not held or layout.flow is None or not _is_observed():
            continue
        alive = [(reference(), key) for reference, key in held]
        known = [observers.of[key] for observers, key in alive if observers is not None]
        for observer in known:
            guarded = layer.compute_dtype == "float16"
            observer.seen.assign_add(
                keras.sum_of_features(inputs, layout.flow.axes, observer.seen.dtype, guarded), read_value=False
            )
        if twins and len(known) == 1 and keras.can_have_twin(kernel):
            twinned = known[0]
    return twinned


def _is_observed() -> bool:
    which = _OBSERVED.get()
    return which == "always" or (which == "training" and keras.is_training_call())
