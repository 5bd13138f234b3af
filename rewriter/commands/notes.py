"""The lines that a command shows below its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rewriter.core.messages import Message


def lines_of(dropped: str, said: Iterable[Message]) -> tuple[str, ...]:
    """List what was said of the optimizer, after what a file lost of it."""
    return (*([f"note: {dropped}"] if dropped else []), *map(str, said))


def with_warnings(lines: tuple[str, ...], warnings: Iterable[str]) -> tuple[str, ...]:
    """Add what was warned of and is not among the lines that are shown anyway."""
    return (*lines, *(f"note: {message}" for message in warnings if message not in lines))
