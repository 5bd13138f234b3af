"""``rewriter inspect``: the plan of a model, before anything is done."""

from __future__ import annotations

import typer

from . import common


def command(
    model: common.Model,
    include: common.Include = None,
    exclude: common.Exclude = None,
    layers: common.Layers = None,
    discover: common.Discover = False,
    strict: common.Strict = False,
    as_json: common.AsJson = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Show what rewriting would do to each layer of a saved model, and why.

    Example:  rewriter inspect base.keras --exclude 'head'
    """
    conversion = common.start(imports)
    inspected = conversion.inspect_file(
        model,
        include=include,
        exclude=exclude,
        layers=layers or "dense",
        discover=discover,
        safe_mode=not allow_lambda,
    )
    if as_json:
        common.print_json(inspected.to_dict())
    else:
        typer.echo(str(inspected))
    if strict:
        inspected.plan.require_all_merged()
