"""Objects that are alive, found among all that Python knows; of no Keras."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def instances_alive(*classes: type) -> list[Any]:
    """List every object there is of some classes."""
    kinds = {kind for cls in classes for kind in _with_subclasses(cls)}
    # The type: a dead weak proxy raises when it is asked for its class.
    return [each for each in gc.get_objects() if type(each) in kinds]


def _with_subclasses(cls: type) -> Iterator[type]:
    yield cls
    subclass: type
    for subclass in cls.__subclasses__():
        yield from _with_subclasses(subclass)
