"""What a user can do about a message, in the words of the program in use.

The library speaks of arguments and calls. A command line has options and commands for them, and gives its own words
while it runs: the same message says ``overwrite=True`` in Python and ``--overwrite`` there.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY = object()  # a value that the message leaves open


class Words:
    """The words for a user of the Python library. A program with other words overrides them."""

    def argument(self, name: str, value: Any = ANY) -> str:
        """Name an argument, with a value or without: ``"exclude="``, ``"exclude=['head']"``."""
        return f"{name}={'' if value is ANY else repr(value)}"

    def plan(self) -> str:
        """Name what shows the plan."""
        return "rewriter.plan(model)"

    def all_paths(self) -> str:
        """Name what lists the paths of all layers."""
        return "print(rewriter.plan(model).tree())"

    def split(self) -> str:
        """Name what splits a model."""
        return "rewriter.split(model)"

    def new_optimizer(self) -> str:
        """Name what gives a model a new optimizer, without the state of the old one."""
        return "Pass optimizer=None for joint momentum, or another optimizer"

    def import_of(self, module: str) -> str:
        """Name what imports a module before a file is read."""
        return f"import {module} first"

    def or_pass(self, classes: str) -> str:
        """Name the other way to make classes known; empty where there is none."""
        return f", or pass custom_objects={classes}"

    def selectors_of(self, cls: str) -> str:
        """Name what selects the layers of a class."""
        return f"a callable, lambda layer: isinstance(layer, {cls}), or paths"


_WORDS: ContextVar[Words] = ContextVar("_words", default=Words())  # noqa: B039  it has no state


@contextlib.contextmanager
def worded(words: Words) -> Iterator[None]:
    """Inside, in this thread, messages are put into these words."""
    token = _WORDS.set(words)
    try:
        yield
    finally:
        _WORDS.reset(token)


@dataclass(frozen=True)
class Argument:
    """An argument that a message names; ``str`` puts it into the words of the moment."""

    name: str
    value: Any = ANY

    def __str__(self) -> str:
        return _WORDS.get().argument(self.name, self.value)


@dataclass(frozen=True)
class Action:
    """Something to do that a message names: a method of :class:`Words`, and what it is given."""

    name: str
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(getattr(_WORDS.get(), self.name)(*self.given))


PLAN = Action("plan")
ALL_PATHS = Action("all_paths")
SPLIT = Action("split")
EXCLUDE = Argument("exclude")
INPUTS = Argument("inputs")
KEEP_OPTIMIZER = Argument("optimizer", "keep")
CENTERED = Argument("optimizer", "centered")
NEW_OPTIMIZER = Action("new_optimizer")
STRICT = Argument("strict", True)
DISCOVER = Argument("discover", True)


def import_of(module: str = "MODULE") -> Action:
    """Return the hint to import a module before a file is read."""
    return Action("import_of", (module,))


def or_pass(classes: str = "") -> Action:
    """Return the hint to pass classes by name, ``"{'Scaled': Scaled}"``, to add to that of :func:`import_of`."""
    return Action("or_pass", (classes,))


def selectors_of(cls: str) -> Action:
    """Return the hint which selectors choose the layers of a class."""
    return Action("selectors_of", (cls,))
