"""Sentences as values: which sentence it is, and its details. They become words when they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sentence(Enum):
    """Base of the sentences about one subject. A member's value is its text, with a field in braces for each detail.

    Calling a member gives the :class:`Message` with these details: ``Skip.NO_AXIS(attribute="kernel", axis=-3)``.
    """

    def __call__(self, **details: Any) -> Message:
        """Return the sentence with its details."""
        return Message(self, tuple(details.items()))


@dataclass(frozen=True)
class Message:
    """A sentence with its details. Decide by ``kind`` and ``details``; ``str`` is for readers.

    Attributes:
        kind: Which sentence.
        details: What it speaks of, by the names of the fields in its text; a tuple is listed there.
    """

    kind: Sentence
    details: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, name: str) -> Any:
        return dict(self.details)[name]

    def __repr__(self) -> str:
        return repr(str(self))

    def __str__(self) -> str:
        words = {name: listed(value) if isinstance(value, tuple) else value for name, value in self.details}
        return str(self.kind.value).format_map(words)


def listed(things: Sequence[Any]) -> str:
    """Write some things as ``"kernel, recurrent_kernel and bias"``."""
    *first, last = map(str, things)
    return f"{', '.join(first)} and {last}" if first else last
