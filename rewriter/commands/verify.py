"""``rewriter verify``: whether the models in two files are the same function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..files.reading import read_model
from ..rewriting.verification import Report, paired_weights, verify
from .arguments import inputs_from
from .plots import difference_plot
from .plots.drawing import require_drawable

if TYPE_CHECKING:
    from pathlib import Path


def verify_files(
    path: Path, other: Path, data: Path | None = None, safe_mode: bool = True, plot: Path | None = None
) -> Report:
    """Read two model files and compare the models, on a batch from a file if there is one; draw where they differ."""
    if plot is not None:
        require_drawable(plot)
    models = [read_model(each, safe_mode=safe_mode)[0] for each in (path, other)]
    report = verify(models[0], models[1], inputs=inputs_from(data, models[0]))
    if plot is not None:
        difference_plot.draw(report, paired_weights(*models), (path.name, other.name), plot)
    return report
