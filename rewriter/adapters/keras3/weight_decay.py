"""What the weight decay of an optimizer leaves out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..records import DecayExclusions

if TYPE_CHECKING:
    from collections.abc import Sequence


def decay_exclusions(optimizer: Any) -> DecayExclusions:
    """Read what the user gave to ``exclude_from_weight_decay``."""
    keys = getattr(optimizer, "_exclude_from_weight_decay", None) or []
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    return DecayExclusions(list(keys), [pattern.pattern] if pattern else [])


def exclude_from_decay(optimizer: Any, keys: Sequence[Any], patterns: Sequence[str] | None = None) -> None:
    """Exclude variables from weight decay, by key and, where they are given, by patterns of names; built or not."""
    optimizer._exclude_from_weight_decay = set(keys)
    if patterns is not None:
        optimizer._exclude_from_weight_decay_pattern = re.compile("|".join(patterns)) if patterns else None
    optimizer._exclude_from_weight_decay_cache = {}


def name_for_patterns(name: str) -> str:
    """Return of a variable's name what patterns of ``exclude_from_weight_decay`` are searched in: its last part."""
    return name.rpartition("/")[2]


def uses_weight_decay(optimizer: Any, variable: Any) -> bool:
    """Tell whether a variable was not excluded from an optimizer's weight decay."""
    return bool(optimizer._use_weight_decay(variable))
