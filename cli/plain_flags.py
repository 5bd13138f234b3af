"""A flag takes no value, and the help names no type of it: Typer writes ``<bool>`` beside each, ``--help`` too."""

from __future__ import annotations

from typing import Any


class PlainFlags:
    """What a command's class is mixed with, so that its flags stand alone in the help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, each flag with an empty name for its value."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if getattr(each, "is_flag", False):
                each.metavar = ""
        return parameters
