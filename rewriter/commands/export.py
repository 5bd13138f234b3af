"""``rewriter export``: from the file of a rewritten model to that of a plain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core.log import warned

from ..files.reading import read_model
from ..files.writing import export, exported_state
from ..planning.planner import plan
from .arguments import inputs_from, output_path
from .result_lines import lines_of, with_warnings

if TYPE_CHECKING:
    from pathlib import Path

    from rewriter.core.tables import Parts


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        source: The file read.
        output: The file written.
        layers: Paths of the layers whose augmented kernel was split back.
        optimizer: What became of the optimizer and its state, one line each.
    """

    source: Path
    output: Path
    layers: tuple[str, ...]
    optimizer: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return ``file``, ``output``, ``layers`` and ``optimizer``."""
        return {
            "file": str(self.source),
            "output": str(self.output),
            "layers": list(self.layers),
            "optimizer": list(self.optimizer),
        }

    def parts(self, _: int) -> Parts:
        """Show which layers were split, what became of the optimizer, and where the file is."""
        layers = f"{len(self.layers)} layers split back into kernel and bias: {', '.join(self.layers)}"
        return [
            layers if self.layers else "nothing was merged: the model is written as it is",
            *self.optimizer,
            f"written: {self.output}",
        ]


def export_file(
    path: Path, output: Path, overwrite: bool = False, data: Path | None = None, safe_mode: bool = True
) -> Exported:
    """Read a model file, rewritten or not, and write its standard form; ``data`` is as in ``rewrite_file``.

    Raises:
        RewriterError: As ``load_model`` and ``export``.
    """
    destination = output_path(path, output, overwrite)
    model, dropped = read_model(path, safe_mode=safe_mode)
    said = exported_state(model, destination)
    layers = tuple(dict.fromkeys(decision.path for decision in plan(model).merged))
    with warned() as warnings:
        export(model, destination, overwrite=overwrite, inputs=inputs_from(data, model))
    return Exported(path, destination, layers, with_warnings(lines_of(dropped, said), warnings))
