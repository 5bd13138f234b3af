"""What the weight decay of an optimizer leaves out."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import keras

from rewriter.core.errors import OptimizerError

from ..records import DecayExclusions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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


def refuse_tensors_in_exclusions() -> None:
    """Have every optimizer of this process refuse tensors in ``exclude_from_weight_decay``.

    ``layer.bias`` of a merged layer is one, a row of ``W*``, and Keras would leave nothing out, without a word.
    """
    base = next(cls for cls in keras.optimizers.Optimizer.__mro__ if "exclude_from_weight_decay" in vars(cls))
    base.exclude_from_weight_decay = _refusing_tensors(base.exclude_from_weight_decay)


def _refusing_tensors(exclude: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(exclude)
    def checked(optimizer: Any, var_list: Any = None, var_names: Any = None) -> None:
        variables = None if var_list is None else list(var_list)
        for each in variables or ():
            if not isinstance(each, keras.Variable):
                raise OptimizerError(
                    "exclude_from_weight_decay takes variables in var_list, got a tensor of shape "
                    f"{tuple(getattr(each, 'shape', ()))}. The bias of a merged layer is a row of W*, which Keras 3 "
                    'leaves out by name: var_names=["bias"].'
                )
        exclude(optimizer, variables, var_names)

    return checked
