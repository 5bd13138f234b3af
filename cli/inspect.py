"""``rewriter inspect``: the plan of a model, before anything is done."""

from __future__ import annotations

from typing import Annotated

from . import common


def command(
    model: common.Model,
    include: common.Include = None,
    exclude: common.Exclude = None,
    layers: common.Layers = None,
    discover: common.Discover = False,
    keep_optimizer: common.KeepOptimizer = False,
    centered: common.Centered = False,
    optimizer: common.Optimizer = None,
    strict: common.Strict = False,
    data: common.Data = None,
    plot: Annotated[
        common.OptionalPath, common.picture_of("each W* as a heat map, its bias apart, and the norms")
    ] = None,
    full: common.Full = False,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Show what rewriting would do to each layer of a saved model, and why.

    Example:  rewriter inspect base.keras --exclude 'head'
    """
    word = common.optimizer_word(keep_optimizer, centered, optimizer)
    with common.working(imports, quiet, model, "inspect") as inspect:
        inspected = inspect.inspect_file(
            model,
            include=include,
            exclude=exclude,
            layers=layers or "dense",
            discover=discover,
            data=data,
            safe_mode=not allow_lambda,
            plot=plot,
            optimizer=word,
            full=full,
        )
    common.show(inspected, as_json, plot)
    if strict:
        inspected.plan.require_all_merged()
