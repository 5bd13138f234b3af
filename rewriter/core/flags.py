"""Arguments that are True or False. Anything else is refused: ``strict="no"`` would count as True."""

from __future__ import annotations

from typing import Any

import numpy as np


def require_flags(**flags: Any) -> None:
    """Raise ``TypeError`` for an argument, given by its name, that is neither ``True`` nor ``False``."""
    for name, value in flags.items():
        if not (isinstance(value, int | np.bool_) and value in (0, 1)):
            raise TypeError(f"{name} must be True or False, got {value!r}.")
