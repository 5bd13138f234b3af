"""Arguments that are on or off: anything else is refused, as ``strict="no"`` would count as on."""

from __future__ import annotations

from typing import Any

import numpy as np


def require_flags(**flags: Any) -> None:
    """Raise ``TypeError`` for an argument, given by its name, that is neither ``True`` nor ``False``."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r}.")
