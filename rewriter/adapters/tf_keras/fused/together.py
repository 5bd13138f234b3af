"""Joint momentum over several layers in one call: not in a graph, which has each layer's step by itself."""

from __future__ import annotations

from typing import Any


def updates_together() -> bool:
    """Return ``False``."""
    return False


def update_together(*_: Any) -> None:
    """Is never called."""
    raise NotImplementedError
