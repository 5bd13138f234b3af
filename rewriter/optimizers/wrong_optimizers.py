"""What was probably meant by something that is no optimizer of this Keras, as words to append to an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.keras_packages import CALLED, LIBRARY, keras_of
from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Sequence


def meant(given: Any, words: Sequence[str] = (), by: str = "") -> str:
    """Return what was probably meant, where ``words`` stand for optimizers too; empty for what says nothing.

    Args:
        given: What was given.
        words: What else stands for an optimizer.
        by: The public name of what it was given to, where there is one for each Keras.
    """
    if isinstance(given, type):
        return f" Make one: {given.__name__}(...)."
    if not isinstance(given, str):
        return _of_other_keras(given, by)
    return did_you_mean(closest(given, words)) or (
        f" A name has no settings: make one, as in {keras.NAME}.optimizers.Adam(1e-3) or "
        f"{keras.LIBRARY}.JointMomentum(0.01)."
    )


def _of_other_keras(given: Any, by: str) -> str:
    other = keras_of(given)
    if other is None or other == keras.NAME:
        return ""
    if by:
        return f" That is one of {CALLED[other]}, for {LIBRARY[other]}.{by}."
    ours = any(cls.__module__.startswith("rewriter.") for cls in type(given).__mro__)
    where = keras.LIBRARY if ours else f"{keras.NAME}.optimizers"
    return f" That is one of {CALLED[other]}; make one of {where}."
