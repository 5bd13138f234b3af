"""``rewriter verify``: are two saved models the same function?"""

from __future__ import annotations

import typer

from . import common


def command(
    model: common.Model,
    other: common.Other,
    as_json: common.AsJson = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Compare two saved models, each rewritten or not: weights bit for bit, and outputs. Exits with 1 if they differ.

    Example:  rewriter verify joint.keras tuned.keras
    """
    conversion = common.start(imports)
    report = conversion.verify_files(model, other, safe_mode=not allow_lambda)
    if as_json:
        common.print_json(report.to_dict())
    else:
        typer.echo(str(report))
    raise typer.Exit(0 if report.same else 1)
