"""Puts a layer back as it was when a change of it fails half way; of no Keras."""

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def unchanged_on_failure(layer: Any) -> Iterator[None]:
    """Inside, attributes of a layer change, what its lists and tables hold, and its class; not if anything is raised.

    Also not if that is a ``KeyboardInterrupt``: what the layer is made of would be nowhere any more.
    """
    held, cls = vars(layer), type(layer)
    before = dict(held)
    lists = [(value, list(value)) for value in before.values() if isinstance(value, list)]
    tables = [(value, list(value.items())) for value in before.values() if isinstance(value, MutableMapping)]
    try:
        yield
    except BaseException:
        object.__setattr__(layer, "__class__", cls)
        held.clear()
        held.update(before)
        for value, kept in lists:
            list.__setitem__(value, slice(None), kept)  # past the tracking of either Keras
        for table, items in tables:
            table.clear()
            for key, value in items:
                table[key] = value
        raise
