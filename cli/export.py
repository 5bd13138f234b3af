"""``rewriter export``: a rewritten model in, a plain Keras model out."""

from __future__ import annotations

from . import common


def command(
    model: common.Model,
    output: common.Output,
    overwrite: common.Overwrite = False,
    data: common.Data = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Write a rewritten model back to standard Keras; also a checkpoint from the middle of training.

    Example:  rewriter export joint.keras tuned.keras
    """
    with common.working(imports, quiet, model, "export") as export:
        result = export.export_file(model, output, overwrite=overwrite, data=data, safe_mode=not allow_lambda)
    common.show(result, as_json)
