"""``rewriter verify``: are two saved models the same function?"""

from __future__ import annotations

from typing import Annotated

import typer

from . import common


def command(
    model: common.Model,
    other: common.Other,
    data: common.Data = None,
    plot: Annotated[common.OptionalPath, common.picture_of("where the two models differ")] = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Compare two saved models, each rewritten or not: weights bit for bit, and outputs. Exits with 1 if they differ.

    Example:  rewriter verify joint.keras tuned.keras
    """
    with common.working(imports, quiet, model, "verify") as verify:
        report = verify.verify_files(model, other, data=data, safe_mode=not allow_lambda, plot=plot)
    common.show(report, as_json, plot)
    raise typer.Exit(0 if report.same else 1)
