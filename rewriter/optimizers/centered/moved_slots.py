"""The slots of a centered optimizer, from the coordinates in which it takes its steps into those of the weights.

With ``m`` the mean of the inputs, a slot made of gradients, of their squares, of their sizes or of steps becomes::

    (V_W + m ⊗ V_b, V_b)    (V_W + m² ⊗ V_b, V_b)    (V_W + |m| ⊗ V_b, V_b)    (V_W, V_b - mᵀ V_W)

Gradients of ``W`` are larger in the coordinates of the weights. If squares stayed as they were, steps there would be as
much too long, for as long as the squares remember. The sum takes its two parts to be independent, and so it cannot be
taken apart again: on the way in squares and sizes stay as they are, which is larger, and makes steps shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...adapters import keras
from . import coordinates
from .optimizer import observer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...model.observation.inputs import Observer

# The slots of Keras's optimizers, by what they are made of. The mean gradient of RMSprop stays as it is: if it were
# larger, it could be larger than the root of the squares from which its own is subtracted.
_OF_GRADIENTS = frozenset({"momentums", "_momentums", "_m"})
_OF_SQUARES = frozenset({"_velocities", "_velocity_hats", "_accumulators", "_accumulated_grads"})
_OF_SIZES = frozenset({"_u"})
MOVED = _OF_GRADIENTS | _OF_SQUARES | _OF_SIZES


def uncentering(optimizer: Any, kernel: Any) -> Callable[[str, Any], Any]:
    """Return what takes a slot of an augmented kernel into the coordinates of the weights.

    It takes the slot's name and the slot, with the mean of this moment. Slots of an optimizer that is not centered it
    returns as they are.

    Args:
        optimizer: The optimizer.
        kernel: The augmented kernel.
    """
    observer = observer_of(optimizer, kernel)
    return lambda name, slot: _moved_slot(optimizer, observer, name, slot, 1)


def centered_slot(optimizer: Any, name: str, kernel: Any, slot: Any) -> Any:
    """Return a slot of an augmented kernel in the coordinates in which its optimizer takes its steps."""
    return _moved_slot(optimizer, observer_of(optimizer, kernel), name, slot, -1)


def _moved_slot(optimizer: Any, observer: Observer | None, name: str, slot: Any, sign: int) -> Any:
    if observer is None:
        return slot
    tensor = keras.ops.convert_to_tensor(slot)
    if name in _OF_GRADIENTS:
        # The momentum of RMSprop is of its steps.
        is_of_steps = isinstance(optimizer, keras.optimizer_classes("RMSprop"))
        return (coordinates.changed_step if is_of_steps else coordinates.changed_gradient)(observer, tensor, sign)
    if sign > 0 and name in _OF_SQUARES:
        return coordinates.changed_gradient(observer, tensor, sign, keras.ops.square)
    if sign > 0 and name in _OF_SIZES:
        return coordinates.changed_gradient(observer, tensor, sign, lambda mean: keras.ops.maximum(mean, -mean))
    return slot
