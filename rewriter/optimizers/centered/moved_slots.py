"""The slots of a centered optimizer, from the coordinates in which it takes its steps into those of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...adapters import keras
from . import coordinates
from .optimizer import observer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...model.observation.inputs import Observer

# The slots that are sums or means of gradients, and so change with the coordinates; second moments stay as they are.
FIRST_MOMENTS = {"momentums", "_momentums", "_m"}


def uncentering(optimizer: Any, kernel: Any) -> Callable[[str, Any], Any]:
    """Return what takes a slot of an augmented kernel into the coordinates of the weights, ``v_W + m ⊗ v_b``.

    It takes the slot's name and the slot, with the mean of this moment. Slots of an optimizer that is not centered, and
    second moments, it returns as they are.

    Args:
        optimizer: The optimizer.
        kernel: The augmented kernel.
    """
    observer = observer_of(optimizer, kernel)
    return lambda name, slot: _moved_slot(observer, name, slot, 1)


def centered_slot(optimizer: Any, name: str, kernel: Any, slot: Any) -> Any:
    """Return a slot of an augmented kernel in the coordinates in which its optimizer takes its steps."""
    return _moved_slot(observer_of(optimizer, kernel), name, slot, -1)


def _moved_slot(observer: Observer | None, name: str, slot: Any, sign: int) -> Any:
    if observer is None or name not in FIRST_MOMENTS:
        return slot
    return coordinates.changed_gradient(observer, keras.ops.convert_to_tensor(slot), sign)
