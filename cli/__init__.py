"""The command line: parses, calls ``rewriter``, prints, and maps errors to exit codes. No logic lives here.

Exit codes: 0 done, 1 the answer is no, 2 the input or the call is wrong.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import Annotated

import typer

from rewriter.core import hints
from rewriter.core.errors import DifferenceError, NotMergeableError, RewriterError
from rewriter.version import __version__

from . import benchmark, export, inspect, rewrite, verify
from .option_hints import Options
from .wrong_names import Command, Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_TRACEBACK = "REWRITER_TRACEBACK"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rewriter {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Rewrite Keras models so that their optimizer sees each layer whole.

    Each Dense kernel and bias become one variable, W*.

    A life cycle: inspect a saved model, rewrite it, train it as always, export it to plain Keras, verify the two.
    """


app.command("inspect", cls=Command)(inspect.command)
app.command("rewrite", cls=Command)(rewrite.command)
app.command("export", cls=Command)(export.command)
app.command("verify", cls=Command)(verify.command)
app.command("benchmark", cls=Command)(benchmark.command)


def main() -> None:
    """Run the command line; the console script ``rewriter``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a pipe may be in an encoding that has no lines to draw with
    with hints.worded(Options()):
        _run()


def _run() -> None:
    try:
        app()
    except RewriterError as error:
        typer.echo(f"rewriter: {error}", err=True)
        sys.exit(1 if isinstance(error, NotMergeableError | DifferenceError) else 2)
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets one line of it
        if os.environ.get(_TRACEBACK):
            traceback.print_exc()
            sys.exit(2)
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
        typer.echo(f"rewriter: unexpected {line} ({_TRACEBACK}=1 shows where; please report it)", err=True)
        sys.exit(2)
