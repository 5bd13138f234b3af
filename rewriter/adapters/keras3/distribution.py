"""Several devices and workers."""

from __future__ import annotations

import contextlib
from typing import Any


def strategy_of(holder: Any) -> Any:
    """Return ``None``: Keras 3 lays variables out by itself."""
    del holder


def strategy_scope(holder: Any) -> Any:
    """Do nothing."""
    del holder
    return contextlib.nullcontext()


def in_foreign_scope(holder: Any) -> bool:
    """Return ``False``."""
    del holder
    return False


def is_chief(holder: Any) -> bool:
    """Tell whether this process writes the files."""
    del holder
    return True
