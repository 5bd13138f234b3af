"""The words of the command line for what a user can do: options and commands where the library has arguments."""

from __future__ import annotations

from typing import Any

from rewriter.core import hints

_FLAGS = {
    ("overwrite", True): "--overwrite",
    ("safe_mode", False): "--allow-lambda",
    ("optimizer", "keep"): "--keep-optimizer",
    ("optimizer", "centered"): "--centered",
    ("strict", True): "--strict",
    ("discover", True): "--discover",
}


class Options(hints.Words):
    """The words of the command line."""

    def argument(self, name: str, value: Any = hints.ANY) -> str:
        """Name an option, with a value or without."""
        if name in {"inputs", "data"}:
            return "--data"
        if isinstance(value, str | bool | None) and (name, value) in _FLAGS:
            return _FLAGS[name, value]
        if isinstance(value, list):
            return " ".join(f"--{name} {each!r}" for each in value)
        return f"--{name}" if value is hints.ANY else f"--{name} {value!r}"

    def plan(self) -> str:
        """Name the command that shows the plan."""
        return "rewriter inspect MODEL"

    def all_paths(self) -> str:
        """Name the command that lists the paths of all layers."""
        return "rewriter inspect MODEL --full"

    def split(self) -> str:
        """Name the command that splits a model."""
        return "`rewriter export MODEL OUTPUT`"

    def new_optimizer(self) -> str:
        """Name what gives a model joint momentum."""
        return "Leave out --keep-optimizer for joint momentum"

    def import_of(self, module: str) -> str:
        """Name the option that imports a module."""
        return f"give --import {module}"

    def or_pass(self, classes: str) -> str:  # noqa: ARG002
        """Return nothing: on the command line there is no other way."""
        return ""

    def selectors_of(self, cls: str) -> str:  # noqa: ARG002
        """Name the selectors of a layer; the command line has none for classes."""
        return "paths"
