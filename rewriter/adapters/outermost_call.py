"""What the outermost call of a layer that is under way was told, which no Keras keeps for the layers inside.

A user who says ``training=False`` of his whole model means inference. One who says it of a part, as to have the
BatchNormalization of a base do as in inference, trains that part all the same.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def told_inference(call: Callable[..., Any], *others: Callable[..., Any]) -> bool:
    """Tell whether the outermost call was told ``training=False``; not so where nobody said anything.

    Args:
        call: The method of Keras through which every layer is called, in the wrapper that Keras has around it.
        others: Further methods, which are told by name.
    """
    codes = [inspect.unwrap(method).__code__ for method in (call, *others)]
    frame, outermost = sys._getframe(1), None
    while frame is not None:
        outermost = frame if frame.f_code in codes else outermost
        frame = frame.f_back  # type: ignore[assignment]
    if outermost is None or outermost.f_back is None:
        return False
    # In the call itself Keras has filled in by now what it takes where nothing was said.
    given = outermost.f_back.f_locals
    training = given.get("kwargs", {}).get("training")
    if training is None and outermost.f_code is codes[0]:
        training = _by_position(*given.get("args", ()))
    return isinstance(training, bool | int) and not training


def _by_position(layer: Any = None, *args: Any) -> Any:
    if len(args) < 2:  # noqa: PLR2004  the first one is the input
        return None
    try:
        return inspect.signature(layer.call).bind_partial(*args).arguments.get("training")
    except TypeError:
        return None
