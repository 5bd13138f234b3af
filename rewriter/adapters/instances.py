"""Objects that are alive, found among all that Python knows; of no Keras."""

from __future__ import annotations

import gc
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def instances_alive(*classes: type) -> list[Any]:
    """List every object there is of some classes."""
    kinds = {kind for cls in classes for kind in _with_subclasses(cls)}
    objects = gc.get_objects()
    # The type: a dead weak proxy raises when it is asked for its class. No loop in Python: there are 400,000 of them.
    return list(itertools.compress(objects, map(kinds.__contains__, map(type, objects))))


def _with_subclasses(cls: type) -> Iterator[type]:
    yield cls
    subclass: type
    for subclass in cls.__subclasses__():
        yield from _with_subclasses(subclass)
