"""The slots of a centered optimizer, from the coordinates in which it takes its steps into those of the weights.

With ``m`` the mean of the inputs, a slot made of gradients, of their squares, of their sizes or of steps becomes::

    (V_W + m ⊗ V_b, V_b)    (V_W + m² ⊗ V_b, V_b)    (V_W + |m| ⊗ V_b, V_b)    (V_W, V_b - mᵀ V_W)

Gradients of ``W`` are larger in the coordinates of the weights. If squares stayed as they were, steps there would be as
much too long, for as long as the squares remember. The sum takes its two parts to be independent. On the way in it is
taken apart again, and where they were not, a tenth stays: steps are longer by √10 at most, of sizes by 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...adapters import keras
from . import coordinates
from .optimizer import observer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...model.observation.inputs import Observer

# The slots of Keras's optimizers, by what they are made of. The mean gradient that RMSprop(centered=True) subtracts
# stays as it is, and the mean square never gets smaller: what is left must not be negative. What Adadelta knows of its
# steps stays too.
_OF_GRADIENTS = frozenset({"momentums", "_momentums", "_m"})
_OF_SQUARES = frozenset({"_velocities", "_velocity_hats", "_accumulators", "_accumulated_grads"})
_OF_SIZES = frozenset({"_u"})
_LEAST = 0.1
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
    ops, is_rmsprop = keras.ops, isinstance(optimizer, keras.optimizer_classes("RMSprop"))
    if name in _OF_GRADIENTS:
        changed = coordinates.changed_step if is_rmsprop else coordinates.changed_gradient  # its momentum is of steps
        return changed(observer, ops.convert_to_tensor(slot), sign)
    if name not in MOVED or (is_rmsprop and sign < 0 and optimizer.centered):
        return slot
    # Adagrad begins with a number that is of no gradient. Squares of means are no numbers of float16.
    start = optimizer.initial_accumulator_value if name == "_accumulators" else 0.0
    slot = ops.convert_to_tensor(slot)
    wide = ops.cast(slot, "float64" if keras.dtype_of(slot.dtype).name == "float64" else "float32") - start
    changed_slot = coordinates.changed_gradient(observer, wide, sign, ops.square if name in _OF_SQUARES else _size)
    if sign < 0:
        changed_slot = ops.maximum(changed_slot, _LEAST * wide)
    return ops.cast(changed_slot + start, slot.dtype)


def _size(number: Any) -> Any:
    return keras.ops.maximum(number, -number)
