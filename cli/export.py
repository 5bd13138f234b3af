"""``rewriter export``: a rewritten model in, a plain Keras model out."""

from __future__ import annotations

import typer

from . import common


def command(
    model: common.Model,
    output: common.Output,
    overwrite: common.Overwrite = False,
    as_json: common.AsJson = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Write a rewritten model back to standard Keras; also a checkpoint from the middle of training.

    Example:  rewriter export joint.keras tuned.keras
    """
    conversion = common.start(imports)
    result = conversion.export_file(model, output, overwrite=overwrite, safe_mode=not allow_lambda)
    if as_json:
        common.print_json(result.to_dict())
    else:
        typer.echo(str(result))
