"""What the pictures have in common: figure, panels, heat map, and the file they are written to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

MOST = 24  # panels in a picture: more could not be read
_DPI = 150


def require_drawable(path: Path) -> None:
    """Raise ``FileError`` unless a picture can be written to a path. Call it before the long work."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  an optional extra
    except ImportError as error:
        raise FileError("--plot needs matplotlib: pip install 'keras-rewriter[plot]'.") from error
    endings = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in endings:
        raise FileError(f"{path} has no ending of a picture; give one of {', '.join(endings)}.")
    if not path.parent.is_dir():
        raise FileError(f"{path} cannot be written: {path.parent} is no folder.")


def figure(width: float, height: float) -> Any:
    """Make an empty figure, of so many inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415  an optional extra

    return Figure(figsize=(width, height), layout="constrained")


def panels(count: int, width: float, height: float, title: str) -> tuple[Any, list[Any]]:
    """Make a figure with so many panels of one size side by side and below each other, and a title above all.

    Returns:
        The figure and its panels, each a figure by itself.
    """
    columns = min(count, 1 + count // 4, 3)
    rows = -(-count // columns)
    whole = figure(width * columns, height * rows + 0.5)
    whole.suptitle(title, fontweight="bold")
    return whole, list(whole.subfigures(rows, columns, squeeze=False).flat)[:count]


def heat_map(axes: Any, numbers: Any, extent: float, colours: str) -> Any:
    """Draw a matrix, a row of it in each row; ``extent`` is the number that has the strongest colour.

    Returns:
        The image, for a scale beside it.
    """
    low = -extent if colours == SIGNED else 0
    image = axes.imshow(numbers, aspect="auto", cmap=colours, vmin=low, vmax=extent, interpolation="nearest")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return image


SIGNED = "RdBu_r"  # white is zero
UNSIGNED = "magma_r"


def strongest(numbers: Any) -> float:
    """Return the number that gets the strongest colour: few exceed it, so that outliers do not bleach the rest."""
    finite = np.abs(numbers[np.isfinite(numbers)])
    return float(np.quantile(finite, 0.999) or finite.max() or 1.0) if finite.size else 1.0


def write(drawn: Any, path: Path) -> None:
    """Write a figure in the format that the ending says.

    Raises:
        FileError: It cannot be written.
    """
    try:
        drawn.savefig(path, dpi=_DPI)
    except OSError as error:
        raise FileError(f"{path}: not written, {error.strerror or error}") from error
