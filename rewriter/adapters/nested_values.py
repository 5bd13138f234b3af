"""What is in containers, however deep; of no Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def values_in(value: Any) -> Iterator[Any]:
    """Yield a value, or each that is in it, if it is a list, tuple, set or dict, or in containers inside of it."""
    # A loop and no recursion, as containers may hold themselves.
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each
        else:
            yield each
