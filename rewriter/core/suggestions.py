"""The right name for a wrong one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def closest(name: str, known: Collection[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Find the known names that are most like a name, in upper or lower case, the nearest first.

    Args:
        name: The name that is not known.
        known: The names there are.
        count: How many to return at most.
        cutoff: How alike they must be, 0 to 1.
    """
    by_lower = {each.lower(): each for each in reversed(list(known))}
    return [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, count, cutoff)]


def did_you_mean(names: Collection[str]) -> str:
    """Ask for some names, as ``" Did you mean 'a' or 'b'?"``; nothing where there are none."""
    return f" Did you mean {' or '.join(map(repr, names))}?" if names else ""
