"""``rewriter rewrite``: a saved model in, a rewritten one out."""

from __future__ import annotations

from typing import Annotated

import typer

from . import common
from .numbers import real


def command(
    model: common.Model,
    output: common.OptionalOutput = None,
    learning_rate: Annotated[
        float | None,
        real(
            "--learning-rate",
            least=0,
            does="If not given, that of a compiled SGD, else 0.01. A rule named has its own.",
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        real(
            "--momentum",
            least=0,
            most=1,
            does="Of joint momentum, 0 to 1; if not given, that of a compiled SGD, else 0.9.",
        ),
    ] = None,
    keep_optimizer: common.KeepOptimizer = False,
    centered: common.Centered = False,
    optimizer: common.Optimizer = None,
    include: common.Include = None,
    exclude: common.Exclude = None,
    layers: common.Layers = None,
    discover: common.Discover = False,
    strict: common.Strict = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and write nothing.")] = False,
    overwrite: common.Overwrite = False,
    data: common.Data = None,
    full: common.Full = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Merge each kernel and bias of a saved model, those of Dense layers or others too; attach centered joint momentum.

    Example:  rewriter rewrite base.keras joint.keras --learning-rate 0.05 --momentum 0.9
    """
    if output is None and not dry_run:
        raise typer.BadParameter("give OUTPUT, where to write; only --dry-run needs none.")
    word = common.optimizer_word(keep_optimizer, centered, optimizer)
    if (keep_optimizer or centered) and (learning_rate is not None or momentum is not None):
        option = "--centered" if centered else "--keep-optimizer"
        raise typer.BadParameter(f"{option} keeps learning rate and momentum too; give one or the other.")
    with common.working(imports, quiet, model, "rewrite") as rewrite:
        result = rewrite.rewrite_file(
            model,
            output,
            learning_rate=learning_rate,
            momentum=momentum,
            optimizer=word,
            include=include,
            exclude=exclude,
            layers=layers or "dense",
            discover=discover,
            strict=strict,
            dry_run=dry_run,
            overwrite=overwrite,
            data=data,
            safe_mode=not allow_lambda,
            full=full,
            announce=common.warn,
        )
    common.show(result, as_json)
