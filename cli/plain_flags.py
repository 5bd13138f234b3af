"""Flags without ``<bool>`` in the help, which Typer writes beside each of them, even ``--help``."""

from __future__ import annotations

from typing import Any


class PlainFlags:
    """Mixin of a command's class that shows its flags without a type."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, each flag with an empty name for its value."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if getattr(each, "is_flag", False):
                each.metavar = ""
        return parameters
