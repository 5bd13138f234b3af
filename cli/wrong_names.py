"""Wrong names of commands and options, as other tools have them, answered with the right ones."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from rewriter.core.suggestions import did_you_mean

from .plain_flags import PlainFlags

_COMMANDS = {
    "plan": "inspect",
    "summary": "inspect",
    "convert": "rewrite",
    "merge": "rewrite",
    "split": "export",
    "diff": "verify",
    "compare": "verify",
    "bench": "benchmark",
}
_OPTIONS = {
    "--lr": "--learning-rate",
    "--keep": "--keep-optimizer",
    "--force": "--overwrite",
    "-f": "--overwrite",
    "--batch": "--batch-size",
    "--xla": "--jit-compile",
    "--inputs": "--data",
    "--output": "OUTPUT",
    "-o": "OUTPUT",
}


class Commands(PlainFlags, TyperGroup):
    """Commands that answer a wrong name with the right one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is asked for."""
        meant = _COMMANDS.get(args[0])
        if meant is not None:
            ctx.fail(f"No such command {args[0]!r}.{did_you_mean([meant])}")
        return super().resolve_command(ctx, args)


class Command(PlainFlags, TyperCommand):
    """A command that answers a wrong name of an option with the right one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        known = {name for parameter in self.get_params(ctx) for name in (*parameter.opts, parameter.metavar)}
        for name in (arg.partition("=")[0] for arg in args):
            meant = _OPTIONS.get(name)
            if meant is not None and meant in known:
                alone = "" if meant.startswith("-") else " It stands by itself."
                ctx.fail(f"No such option {name!r}.{did_you_mean([meant])}{alone}")
        return super().parse_args(ctx, args)
