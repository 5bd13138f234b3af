"""The variable names that disappear when layers are merged, and the users' strings that refer to them.

An optimizer or a ``train_step`` that goes by names, ``"bias" not in variable.name``, does something else from then on.
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass
from itertools import filterfalse
from typing import TYPE_CHECKING, Any

from rewriter.core import hints

from ..adapters import keras
from ..model.variable_holders import functions_of, is_of_a_library, is_of_a_users_class

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import CodeType

    from rewriter.core.layout import Layout

# What every optimizer has: its own name, and what weight decay leaves out, which means kernel and bias.
_NOT_NAMES = frozenset(
    {"name", "_name", "_rewriter_excluded_parts", "_index_dict", "_variables"}
    | {"_exclude_from_weight_decay", "_exclude_from_weight_decay_names", "_exclude_from_weight_decay_pattern"}
)


@dataclass(frozen=True)
class Renamed:
    """The variables that a merge replaces, by name, and the one that stands for them."""

    old: tuple[str, ...]
    new: str

    @classmethod
    def by(cls, layout: Layout) -> Renamed:
        """Read the names from the layout of an augmented kernel."""
        return cls(layout.part_names(layout.name), layout.name)

    def __str__(self) -> str:
        return f"{' and '.join(self.old)} → {self.new}"

    def to_dict(self) -> dict[str, Any]:
        """Return ``old``, a list, and ``new`` as JSON data."""
        return {"old": list(self.old), "new": self.new}

    def is_distinguished_by(self, text: str) -> bool:
        """Tell whether a text, found in a name or searched for as a pattern, finds some of these and not the others."""
        found = [_occurs(text, f"{name}:0") for name in (*self.old, self.new)]
        return any(found[:-1]) and not all(found)


def _occurs(text: str, name: str) -> bool:
    try:
        return text in name or re.search(text, name) is not None
    except re.error:
        return False


def summary_of(renamed: Iterable[Renamed], width: int = 10**6) -> str:
    """Return one line on the names that disappear: the first of them, or the general rule if that is too wide."""
    several = list(map(str, renamed))
    more = f", and so on in {len(several) - 1} more" if len(several) > 1 else ""
    line = f"variable names: {several[0]}{more}" if several else ""
    return line if len(line) <= width else "variable names: kernel and bias → augmented_kernel"


def warnings_of(model: Any, optimizer: Any, renamed: Iterable[Renamed]) -> Iterator[str]:
    """Yield a warning for each string in a kept optimizer or a user's model that distinguishes replaced variables."""
    several = list(renamed)
    inner, names = keras.inner_optimizer(optimizer), {name for each in several for name in each.old}
    found = {
        type(inner).__name__: () if inner is None else _texts_of(inner),
        f"code that is called with {model.name}": _texts_in_functions(model, *keras.layers_below(model)),
        f"what {model.name} holds": _held_by(names, model, *keras.layers_below(model)),
    }
    for what, of_it in found.items():
        texts = dict.fromkeys(of_it)
        telling = [text for text in texts if any(each.is_distinguished_by(text) for each in several)]
        if telling:
            example = next(each for each in several if any(map(each.is_distinguished_by, telling)))
            yield (
                f"{what} goes by names of variables, {', '.join(map(repr, telling))}, and some of these are gone: "
                f"{example}. Let it ask rewriter.layout_of(variable) for the rows instead, or leave the layers out, "
                f"{hints.EXCLUDE}."
            )


def _texts_of(optimizer: Any) -> Iterator[str]:
    for held in (_config_of(optimizer), vars(optimizer)):
        for name, value in list(held.items()):
            if name not in _NOT_NAMES and not keras.is_bookkeeping(name):
                yield from _texts_in(value)
    yield from _texts_in_functions(optimizer)
    for base in filterfalse(is_of_a_library, type(optimizer).__mro__):
        yield from _texts_in([value for name, value in vars(base).items() if not name.startswith("__")])


def _held_by(names: Collection[str], *holders: Any) -> Iterator[str]:
    """Yield the texts in attributes of users' layers, in any container, that are names of variables."""
    for holder in filter(is_of_a_users_class, holders):
        held = [value for name, value in keras.attributes_of(holder).items() if not keras.is_bookkeeping(name)]
        yield from (text for text in _texts_in(held) if text.removesuffix(":0") in names)


def _texts_in_functions(*holders: Any) -> Iterator[str]:
    for function in functions_of(*holders):
        yield from _texts_in_code(function.__code__, function.__doc__)


def _config_of(holder: Any) -> dict[str, Any]:
    try:
        config: dict[str, Any] = holder.get_config()
    except Exception:  # noqa: BLE001  what a user's own optimizer or schedule raises is said where it is saved
        return {}
    return config


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) > 2 and not value.isspace():  # noqa: PLR2004  shorter ones are found in anything
            yield value
    elif isinstance(value, dict):
        for key, each in list(value.items()):
            yield from _texts_in(key)
            yield from _texts_in(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts_in(each)
    elif isinstance(value, re.Pattern):
        yield from _texts_in(value.pattern)


def _texts_in_code(code: CodeType, docstring: str | None) -> Iterator[str]:
    """Yield the words that a function which reads a name has among its constants."""
    constants = [each for each in code.co_consts if each != docstring]
    if "name" in code.co_names:
        yield from (text for text in _texts_in(constants) if " " not in text)
    for each in constants:
        if isinstance(each, types.CodeType):
            yield from _texts_in_code(each, None)
