"""``rewriter benchmark``: a model against itself, rewritten, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from . import common
from .numbers import whole


def command(
    model: common.Model,
    batch_size: Annotated[int, whole("--batch-size", least=1, does="Rows in a batch.")] = 32,
    rounds: Annotated[int, whole("--rounds", least=1, does="How often each is measured, in turn.")] = 15,
    steps: Annotated[
        int | None,
        whole(
            "--steps",
            least=1,
            does="Steps in a round, up to whole periods of a rule; a tenth of a second if not given.",
        ),
    ] = None,
    jit_compile: Annotated[bool, typer.Option("--jit-compile", help="Measure it compiled by XLA, too.")] = False,
    centered: Annotated[
        bool, typer.Option("--centered", help="Measure SGD and joint momentum in centered coordinates, too.")
    ] = False,
    optimizer: common.Optimizer = None,
    layers: common.Layers = None,
    discover: common.Discover = False,
    data: common.TrainingData = None,
    plot: Annotated[common.OptionalPath, common.picture_of("the times as shares of those of the original")] = None,
    as_json: common.AsJson = False,
    quiet: common.Quiet = False,
    imports: common.Import = None,
    allow_lambda: common.AllowLambda = False,
) -> None:
    """Measure a saved model against itself, rewritten: training step, inference, optimizer state, peak memory.

    The original trains with SGD with momentum; the rewritten model with joint momentum, its own
    rule, or the one that --optimizer names, and that SGD.

    Example:  rewriter benchmark base.keras --batch-size 128 --jit-compile
    """
    with common.working(imports, quiet, model, "benchmark.run") as benchmark:
        result = benchmark.benchmark_file(
            model,
            batch_size=batch_size,
            rounds=rounds,
            steps=steps,
            jit_compile=jit_compile,
            centered=centered,
            optimizer=optimizer,
            layers=layers or "dense",
            discover=discover,
            data=data,
            safe_mode=not allow_lambda,
            imports=tuple(imports or ()),
            plot=plot,
        )
    common.show(result, as_json, plot)
