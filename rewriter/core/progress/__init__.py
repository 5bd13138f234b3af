"""Progress of long work, told to a listener. A command line or a notebook draws it; without one it costs nothing."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_Item = TypeVar("_Item")


class Stage(Protocol):
    """A part of the work, under way."""

    def advance(self) -> None:
        """Hear that a step of it is done."""

    def end(self) -> None:
        """Hear that it is over, or has failed."""


class Listener(Protocol):
    """What is told of each stage."""

    def begin(self, name: str, steps: int | None) -> Stage:
        """Hear that a stage begins, of so many steps, ``None`` if unknown; maybe inside another."""


_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, in this thread, a listener is told of every stage."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def is_heard() -> bool:
    """Tell whether somebody listens, in this thread."""
    return _listener.get() is not None


@contextlib.contextmanager
def stage(name: str, steps: int | None = None) -> Iterator[Stage | None]:
    """Inside is one stage of the work. Its name says what is done to what: ``"reading base.keras"``."""
    listener = _listener.get()
    if listener is None:
        yield None
        return
    begun = listener.begin(name, steps)
    try:
        yield begun
    finally:
        begun.end()


def each(items: Sequence[_Item], name: str) -> Iterator[_Item]:
    """Yield items; the whole loop is one stage, each item one step."""
    with stage(name, len(items)) as begun:
        for item in items:
            yield item
            if begun is not None:
                begun.advance()
