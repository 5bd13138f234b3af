"""The lines that a command shows below its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rewriter.core.messages import Message


def lines_of(dropped: str, said: Iterable[Message]) -> tuple[str, ...]:
    """List what a file lost of the optimizer, and then what became of it."""
    return (*([f"note: {dropped}"] if dropped else []), *map(str, said))


def with_warnings(lines: tuple[str, ...], warnings: Iterable[str]) -> tuple[str, ...]:
    """Append the warnings that are not among the lines already."""
    return (*lines, *(f"note: {message}" for message in warnings if message not in lines))
