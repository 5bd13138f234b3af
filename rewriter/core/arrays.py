"""Which array operations belong to a value: those that the adapter of its Keras registers.

Where there is no adapter they are NumPy's, which have the names and arguments of ``keras.ops``. So what is written with
them, like a layout, works on the tensors and variables of each Keras.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_REGISTERED: list[Any] = []


def register(operations: Any, first: bool = False) -> None:
    """Add the operations of an adapter: a module with a function ``owns(value)`` and those of ``keras.ops``.

    Args:
        operations: The module.
        first: Whether it is asked before others, as two Kerases may work with the tensors of one framework.
    """
    _REGISTERED.insert(0 if first else len(_REGISTERED), operations)


def ops_of(value: Any) -> Any:
    """Return the module with the array operations for a value; for an array, that of the first Keras in use."""
    return next((each for each in _REGISTERED if each.owns(value)), _REGISTERED[0] if _REGISTERED else np)


def rank_of(shape: Any) -> int:
    """Return how many axes a shape has, 0 where that is not known."""
    return len(shape) if getattr(shape, "rank", 0) is not None else 0
