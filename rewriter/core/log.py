"""The logger of the library, and its warnings collected, so that a command can print them."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger("rewriter")


def log_lines(lines: Iterable[object]) -> None:
    """Log what was done, line by line."""
    for line in lines:
        log.info("%s", line)


@contextlib.contextmanager
def warned() -> Iterator[list[str]]:
    """Collect the library's warnings instead of passing them on to other handlers."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    propagated = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield messages
    finally:
        log.removeHandler(handler)
        log.propagate = propagated


def warn(message: str) -> None:
    """Warn at the line of the user's program that called the library, through however many of its functions."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "rewriter":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
